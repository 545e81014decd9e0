#pragma once

// The CUDA side of linalg: cuda/linalg.cu, or cuda/stub.cpp without nvcc. Shapes are checked; views
// lie in GPU memory.

#include <cstdint>
#include <vector>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore::cuda {

/// A = L L^T in place by cuSOLVER, zeros above; false, with A as it was, where the matrix is not
/// positive definite.
/// @throws InvalidArgument     the matrix holds a NaN or an infinity
/// @throws BackendUnavailable  cuSOLVER cannot be loaded
template <class T>
bool try_cholesky(const Context& context, View<T, 2> A);

/// Throws InvalidArgument where A holds a NaN or an infinity, or is not symmetric to `tolerance` of
/// its largest entry.
template <class T>
void check_symmetric(const Context& context, View<const T, 2> A, double tolerance);

/// to = from.
template <class T>
void copy_matrix(const Context& context, View<const T, 2> from, View<T, 2> to);

/// out[k] = A x[k]; where A is `lower`, what lies above its diagonal is not read.
void multiply_rows(const Context& context, View<const double, 2> A, bool lower,
                   View<const double, 2> x, View<double, 2> out);

/// x = L^-T x by cuBLAS.
/// @throws BackendUnavailable  cuBLAS, which cuSOLVER needs, cannot be loaded
void lower_transpose_solve(const Context& context, View<const double, 2> L, View<double, 1> x);

void add_to_diagonal(const Context& context, View<double, 2> A, double value);

/// Numbers of a GPU to the host.
template <class T>
void to_host(const Context& context, const T* from, std::int64_t count, T* to);

/// An array of either device in host memory.
template <class T>
std::vector<T> host_copy(const Context& context, View<const T, 2> A) {
  if (A.device == Device::cpu) return {A.begin(), A.end()};
  std::vector<T> copy(static_cast<std::size_t>(A.size()));
  to_host(context, A.data, A.size(), copy.data());
  return copy;
}

}  // namespace mlcore::cuda
