// Mirrors what the GPU needs of cpp/src/linalg.cpp: Cholesky by cuSOLVER and a triangular solve by
// cuBLAS, which are loaded when they are first asked for; the check of symmetry; products.

#include <dlfcn.h>

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "device.cuh"
#include "finite.cuh"
#include "linalg_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr unsigned kMostBlocks = 65535;  // along the second axis of a grid

cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream); }

unsigned blocks(std::int64_t items, std::int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// Blocks of 32 x 32 threads that cover a matrix.
dim3 tiles(std::int64_t m) {
  const unsigned count = blocks(m, kWarp);
  MLCORE_CHECK(count <= kMostBlocks, "the matrix is too large for the GPU: ", m, " rows");
  return {count, count};
}

__device__ double warp_sum(double v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v += __shfl_down_sync(kAllLanes, v, offset);
  return v;
}

/// out[c] = A in[c], of every row the first i + 1 entries where `lower`; a warp per row, column
/// c = blockIdx.y.
__global__ void add_rows(const double* A, std::int64_t m, bool lower, const double* in,
                         double* out) {
  const std::int64_t i =
      blockIdx.x * static_cast<std::int64_t>(kThreads / kWarp) + threadIdx.x / kWarp;
  if (i >= m) return;
  const double* row = A + i * m;
  const double* x = in + blockIdx.y * m;
  const std::int64_t end = lower ? i + 1 : m;
  double sum = 0;
  for (std::int64_t j = threadIdx.x % kWarp; j < end; j += kWarp) sum += row[j] * x[j];
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) out[blockIdx.y * m + i] = sum;
}

__global__ void shift_diagonal(double* A, std::int64_t m, double value) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i < m) A[i * m + i] += value;
}

/// Raises *to to v >= 0; such numbers are ordered as their bits are.
__device__ void raise_to(unsigned long long* to, double v) {
  atomicMax(to, static_cast<unsigned long long>(__double_as_longlong(v)));
}

/// found[0] = max |A_ij - A_ji|, found[1] = max |A_ij| of finite entries, as bits. A thread per
/// entry of a tile of 32 x 32 on or below the diagonal; the tile across it goes through shared
/// memory.
template <class T>
__global__ void measure_asymmetry(const T* A, std::int64_t m, unsigned long long* found) {
  __shared__ double across[kWarp][kWarp + 1];
  const std::int64_t row = blockIdx.y * static_cast<std::int64_t>(kWarp);
  const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(kWarp);
  if (column > row) return;
  const std::int64_t u = column + threadIdx.y, v = row + threadIdx.x;
  across[threadIdx.y][threadIdx.x] = u < m && v < m ? static_cast<double>(A[u * m + v]) : 0.0;
  __syncthreads();
  const std::int64_t i = row + threadIdx.y, j = column + threadIdx.x;
  if (i >= m || j >= m) return;
  const double below = A[i * m + j], above = across[threadIdx.x][threadIdx.y];
  raise_to(found, fabs(below - above));
  raise_to(found + 1, fmax(fabs(below), fabs(above)));
}

template <class T>
__global__ void read_diagonal(const T* A, std::int64_t m, T* diagonal) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i < m) diagonal[i] = A[i * m + i];
}

/// Zeros above the diagonal; a thread per entry of the matrix.
template <class T>
__global__ void clear_above(T* A, std::int64_t m) {
  const std::int64_t i = blockIdx.y * static_cast<std::int64_t>(kWarp) + threadIdx.y;
  const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(kWarp) + threadIdx.x;
  if (i < j && j < m) A[i * m + j] = 0;
}

/// Makes the matrix symmetric again from what lies above the diagonal; a thread per entry.
template <class T>
__global__ void restore_below(T* A, std::int64_t m, const T* diagonal) {
  const std::int64_t i = blockIdx.y * static_cast<std::int64_t>(kWarp) + threadIdx.y;
  const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(kWarp) + threadIdx.x;
  if (i >= m || j > i) return;
  A[i * m + j] = i == j ? diagonal[i] : A[j * m + i];
}

/// The few functions of cuSOLVER, and of the cuBLAS it brings, that are called here.
class Library {
 public:
  using Handle = void*;
  // CUBLAS_FILL_MODE_UPPER, _OP_N and _DIAG_NON_UNIT. These libraries count columns first: the
  // lower triangle of a matrix stored by rows is the upper one of its transpose to them.
  static constexpr int kUpper = 1, kAsItIs = 0, kAnyDiagonal = 0;

  static const Library& get() {
    static const Library library;
    return library;
  }

  int (*solver_create)(Handle*);
  int (*solver_destroy)(Handle);
  int (*solver_set_stream)(Handle, cudaStream_t);
  int (*blas_create)(Handle*);
  int (*blas_destroy)(Handle);
  int (*blas_set_stream)(Handle, cudaStream_t);
  int (*dtrsv)(Handle, int, int, int, int, const double*, int, double*, int);

  template <class T>
  struct Factor {
    int (*buffer_size)(Handle, int, int, T*, int, int*);
    int (*potrf)(Handle, int, int, T*, int, T*, int, int*);
  };
  template <class T>
  const Factor<T>& factor() const {
    if constexpr (std::is_same_v<T, double>) {
      return of_double_;
    } else {
      return of_single_;
    }
  }

 private:
  Library() {
    void* library = open();
    if (!library) {
      detail::raise<BackendUnavailable>(
          "Cholesky on the GPU needs cuSOLVER, which cannot be loaded (", dlerror(),
          "): pip install nvidia-cusolver, or take noise by Lanczos' method");
    }
    find(library, "cusolverDnCreate", solver_create);
    find(library, "cusolverDnDestroy", solver_destroy);
    find(library, "cusolverDnSetStream", solver_set_stream);
    find(library, "cusolverDnDpotrf_bufferSize", of_double_.buffer_size);
    find(library, "cusolverDnDpotrf", of_double_.potrf);
    find(library, "cusolverDnSpotrf_bufferSize", of_single_.buffer_size);
    find(library, "cusolverDnSpotrf", of_single_.potrf);
    // cuSOLVER is linked with cuBLAS: its symbols are found through it.
    find(library, "cublasCreate_v2", blas_create);
    find(library, "cublasDestroy_v2", blas_destroy);
    find(library, "cublasSetStream_v2", blas_set_stream);
    find(library, "cublasDtrsv_v2", dtrsv);
  }

  /// Of the process (torch and CuPy load it), of the system, or of NVIDIA's wheels beside ours.
  static void* open() {
    for (const char* name : {"libcusolver.so.12", "libcusolver.so.11", "libcusolver.so"}) {
      if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    }
    Dl_info info;
    if (!dladdr(reinterpret_cast<const void*>(&Library::get), &info)) return nullptr;
    std::string root(info.dli_fname);  // site-packages/mlcore/lib/libmlcore.so
    for (int levels = 0; levels < 3; ++levels) root.erase(root.find_last_of('/') + 1).pop_back();
    for (const char* path :
         {"/nvidia/cu13/lib/libcusolver.so.12", "/nvidia/cusolver/lib/libcusolver.so.11"}) {
      if (void* library = dlopen((root + path).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    }
    return nullptr;
  }

  template <class F>
  static void find(void* library, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(library, name));
    if (!function) detail::raise<BackendUnavailable>("this cuSOLVER has no ", name);
  }

  Factor<double> of_double_;
  Factor<float> of_single_;
};

void check_solver(int status, const char* what) {
  if (status != 0) detail::raise<Error>("cuSOLVER failed to ", what, " (status ", status, ")");
}

void check_blas(int status, const char* what) {
  if (status != 0) detail::raise<Error>("cuBLAS failed to ", what, " (status ", status, ")");
}

class SolverHandle {
 public:
  explicit SolverHandle(cudaStream_t stream) {
    check_solver(Library::get().solver_create(&handle_), "start");
    check_solver(Library::get().solver_set_stream(handle_, stream), "take the stream");
  }
  ~SolverHandle() { Library::get().solver_destroy(handle_); }
  SolverHandle(const SolverHandle&) = delete;
  SolverHandle& operator=(const SolverHandle&) = delete;
  Library::Handle get() const { return handle_; }

 private:
  Library::Handle handle_ = nullptr;
};

class BlasHandle {
 public:
  explicit BlasHandle(cudaStream_t stream) {
    check_blas(Library::get().blas_create(&handle_), "start");
    check_blas(Library::get().blas_set_stream(handle_, stream), "take the stream");
  }
  ~BlasHandle() { Library::get().blas_destroy(handle_); }
  BlasHandle(const BlasHandle&) = delete;
  BlasHandle& operator=(const BlasHandle&) = delete;
  Library::Handle get() const { return handle_; }

 private:
  Library::Handle handle_ = nullptr;
};

/// A = L L^T, of which only the triangle of L is read and written; false at a pivot that is not
/// positive.
template <class T>
bool factored(View<T, 2> A, cudaStream_t stream) {
  const Library::Factor<T>& library = Library::get().factor<T>();
  const SolverHandle handle(stream);
  const int m = static_cast<int>(A.shape[0]);
  int length = 0;
  check_solver(library.buffer_size(handle.get(), Library::kUpper, m, A.data, m, &length), "plan");
  const Scratch<T> work(length, stream);
  const Scratch<int> info(1, stream);
  check_solver(
      library.potrf(handle.get(), Library::kUpper, m, A.data, m, work.get(), length, info.get()),
      "factor a matrix");
  const Scratch<T> diagonal(m, stream);
  read_diagonal<<<blocks(m, kThreads), kThreads, 0, stream>>>(A.data, m, diagonal.get());
  check(cudaGetLastError(), "read a diagonal");
  int found = 0;
  std::vector<T> pivots(m);
  check(cudaMemcpyAsync(&found, info.get(), sizeof(int), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(
      cudaMemcpyAsync(pivots.data(), diagonal.get(), m * sizeof(T), cudaMemcpyDeviceToHost, stream),
      "copy from the device");
  check(cudaStreamSynchronize(stream), "factor a matrix");
  for (T pivot : pivots) {
    if (!std::isfinite(pivot)) return false;
  }
  return found == 0;
}

}  // namespace

template <class T>
bool try_cholesky(const Context& context, View<T, 2> A) {
  const CurrentDevice current(device_of("the matrix", A.data));
  const cudaStream_t stream = stream_of(context);
  const std::int64_t m = A.shape[0];
  const dim3 grid = tiles(m), block(kWarp, kWarp);
  const Scratch<T> diagonal(m, stream);
  read_diagonal<<<blocks(m, kThreads), kThreads, 0, stream>>>(A.data, m, diagonal.get());
  check(cudaGetLastError(), "read a diagonal");
  if (factored(A, stream)) {
    clear_above<<<grid, block, 0, stream>>>(A.data, m);
    check(cudaGetLastError(), "clear a triangle");
    return true;
  }
  restore_below<<<grid, block, 0, stream>>>(A.data, m, diagonal.get());
  check(cudaGetLastError(), "restore a matrix");
  check_finite_there("the matrix", A.data, A.size(), stream);
  return false;
}

template <class T>
void check_symmetric(const Context& context, View<const T, 2> A, double tolerance) {
  const std::int64_t m = A.shape[0];
  if (m == 0) return;
  const CurrentDevice current(device_of("the matrix", A.data));
  const cudaStream_t stream = stream_of(context);
  check_finite_there("the matrix", A.data, A.size(), stream);
  double found[2] = {0, 0};
  const Scratch<double> there(found, 2, stream);
  measure_asymmetry<<<tiles(m), dim3(kWarp, kWarp), 0, stream>>>(
      A.data, m, reinterpret_cast<unsigned long long*>(there.get()));
  check(cudaGetLastError(), "compare a matrix with its transpose");
  check(cudaMemcpyAsync(found, there.get(), sizeof(found), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "compare a matrix with its transpose");
  MLCORE_CHECK(found[0] <= tolerance * found[1], "the matrix must be symmetric to ", tolerance,
               " of its largest entry, but M - M^T has an entry of ", found[0]);
}

template <class T>
void copy_matrix(const Context& context, View<const T, 2> from, View<T, 2> to) {
  const CurrentDevice current(device_of("the matrix", from.data));
  device_of("L", to.data);
  check(cudaMemcpyAsync(to.data, from.data, from.size() * sizeof(T), cudaMemcpyDeviceToDevice,
                        stream_of(context)),
        "copy a matrix");
}

void multiply_rows(const Context& context, View<const double, 2> A, bool lower,
                   View<const double, 2> x, View<double, 2> out) {
  const std::int64_t m = A.shape[0], count = x.shape[0];
  MLCORE_CHECK(count <= kMostBlocks, "at most ", kMostBlocks, " vectors at a time on the GPU, got ",
               count);
  const CurrentDevice current(device_of("the matrix", A.data));
  const dim3 grid(blocks(m, kThreads / kWarp), static_cast<unsigned>(count));
  add_rows<<<grid, kThreads, 0, stream_of(context)>>>(A.data, m, lower, x.data, out.data);
  check(cudaGetLastError(), "multiply by a matrix");
}

void lower_transpose_solve(const Context& context, View<const double, 2> L, View<double, 1> x) {
  const CurrentDevice current(device_of("the matrix", L.data));
  const int m = static_cast<int>(L.shape[0]);
  const BlasHandle handle(stream_of(context));
  check_blas(Library::get().dtrsv(handle.get(), Library::kUpper, Library::kAsItIs,
                                  Library::kAnyDiagonal, m, L.data, m, x.data, 1),
             "solve a triangular system");
}

void add_to_diagonal(const Context& context, View<double, 2> A, double value) {
  const std::int64_t m = A.shape[0];
  const CurrentDevice current(device_of("the matrix", A.data));
  shift_diagonal<<<blocks(m, kThreads), kThreads, 0, stream_of(context)>>>(A.data, m, value);
  check(cudaGetLastError(), "shift a matrix");
}

template <class T>
void to_host(const Context& context, const T* from, std::int64_t count, T* to) {
  if (count == 0) return;
  const CurrentDevice current(device_of("an array", from));
  check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, stream_of(context)),
        "copy from the device");
  check(cudaStreamSynchronize(stream_of(context)), "copy from the device");
}

#define MLCORE_INSTANTIATE(T)                                                 \
  template bool try_cholesky<T>(const Context&, View<T, 2>);                  \
  template void check_symmetric<T>(const Context&, View<const T, 2>, double); \
  template void copy_matrix<T>(const Context&, View<const T, 2>, View<T, 2>); \
  template void to_host<T>(const Context&, const T*, std::int64_t, T*);
MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)
#undef MLCORE_INSTANTIATE

}  // namespace mlcore::cuda
