#pragma once

// The CUDA side of noise: cuda/noise.cu, or cuda/stub.cpp without nvcc. Arguments are checked;
// views lie in GPU memory.

#include <memory>

#include "krylov.hpp"

namespace mlcore::cuda {

/// Products with M(x), never formed.
std::unique_ptr<detail::VectorSpace> noise_space(const Context& context, const MobilityModel& model,
                                                 const Cell& cell, View<const double, 2> x,
                                                 std::int64_t count);
/// Products with a given matrix (m, m).
std::unique_ptr<detail::VectorSpace> noise_space(const Context& context, View<const double, 2> M,
                                                 std::int64_t count);

/// out[k] = L z[k] with M + shift I = L L^T by cuSOLVER; M becomes L. False where the matrix is not
/// positive definite; M is then destroyed.
/// @throws BackendUnavailable  cuSOLVER or cuBLAS cannot be loaded
bool noise_cholesky(const Context& context, View<double, 2> M, double shift,
                    View<const double, 2> z, View<double, 2> out);

/// Throws InvalidArgument where M holds a NaN or an infinity, or is not symmetric to `tolerance` of
/// its largest entry.
void noise_check_symmetric(const Context& context, View<const double, 2> M, double tolerance);

/// A device array copied to the host.
void noise_to_host(const Context& context, const double* from, std::int64_t count, double* to);
/// A copy of M on its device.
std::shared_ptr<double> noise_copy(const Context& context, View<const double, 2> M);
/// Uninitialised memory on the device of `like`.
std::shared_ptr<double> noise_memory(const Context& context, const double* like,
                                     std::int64_t count);

}  // namespace mlcore::cuda
