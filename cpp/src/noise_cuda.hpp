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

/// Uninitialised memory on the device of `like`.
std::shared_ptr<double> noise_memory(const Context& context, const double* like,
                                     std::int64_t count);

}  // namespace mlcore::cuda
