#pragma once

// The CUDA side of random numbers: cuda/random.cu, or cuda/stub.cpp without nvcc. Arguments are
// checked.

#include "mlcore/random.hpp"

namespace mlcore::cuda {

/// out lies in GPU memory, tags there or in CPU memory.
void random_normal(const Context& context, std::uint64_t seed, std::uint32_t stream,
                   std::uint64_t step, View<const std::uint32_t, 1> tags, View<double, 2> out);

}  // namespace mlcore::cuda
