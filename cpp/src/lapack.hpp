#pragma once

// The Fortran BLAS and LAPACK routines the core calls, with the symbol prefix of the library found
// by CMake. Column-major: a row-major lower triangle is an upper one here.

#include <cstddef>

#ifdef MLCORE_LAPACK_PREFIX
#define MLCORE_LAPACK_JOIN2(prefix, name) prefix##name
#define MLCORE_LAPACK_JOIN(prefix, name) MLCORE_LAPACK_JOIN2(prefix, name)
#define MLCORE_LAPACK(name) MLCORE_LAPACK_JOIN(MLCORE_LAPACK_PREFIX, name)
#else
#define MLCORE_LAPACK(name) name
#endif

extern "C" {

// Trailing std::size_t arguments are the lengths of the characters, as gfortran passes them.
void MLCORE_LAPACK(dtrsv_)(const char* uplo, const char* trans, const char* diag, const int* n,
                           const double* a, const int* lda, double* x, const int* incx, std::size_t,
                           std::size_t, std::size_t);
void MLCORE_LAPACK(dsyevd_)(const char* jobz, const char* uplo, const int* n, double* a,
                            const int* lda, double* w, double* work, const int* lwork, int* iwork,
                            const int* liwork, int* info, std::size_t, std::size_t);

void MLCORE_LAPACK(dstevd_)(const char* jobz, const int* n, double* d, double* e, double* z,
                            const int* ldz, double* work, const int* lwork, int* iwork,
                            const int* liwork, int* info, std::size_t);

#ifdef MLCORE_LAPACK_PREFIX
void MLCORE_LAPACK(openblas_set_num_threads)(int threads);
#endif
}

namespace mlcore::detail {

/// To be called before any routine above: a private OpenBLAS (one with a prefix) works on the
/// calling thread alone from then on. That makes concurrent calls safe and results reproducible;
/// a system LAPACK is shared with the host program and left as it is.
inline void prepare_lapack() {
#ifdef MLCORE_LAPACK_PREFIX
  static const bool done = (MLCORE_LAPACK(openblas_set_num_threads)(1), true);
  (void)done;
#endif
}

}  // namespace mlcore::detail
