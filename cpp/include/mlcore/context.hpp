#pragma once

#include "mlcore/error.hpp"

namespace mlcore {

/// How an operation runs. Where it runs is said by the device of its views.
struct Context {
  int threads = 0;         ///< CPU threads; 0: the library-wide setting (see num_threads)
  void* stream = nullptr;  ///< cudaStream_t of the caller; null: the default stream
};

/// Library-wide number of CPU threads: set_num_threads, else MLCORE_NUM_THREADS, else
/// OMP_NUM_THREADS, else the number of cores this process may use.
MLCORE_API int num_threads();

/// Sets the library-wide number of CPU threads (>= 1; 0 restores the default).
MLCORE_API void set_num_threads(int threads);

/// Instruction set of the inner loops: "baseline", "avx2", "avx512" or "neon".
/// MLCORE_SIMD=baseline|avx2|avx512 lowers it; it is read once.
MLCORE_API const char* simd_level();

/// Version of the library, "major.minor.patch".
MLCORE_API const char* version();

/// What the CUDA part of this build can do.
struct CudaStatus {
  bool compiled = false;  ///< built with nvcc
  int devices = 0;        ///< visible GPUs
  char name[128] = "";    ///< name of the first one
};
MLCORE_API CudaStatus cuda_status();

}  // namespace mlcore
