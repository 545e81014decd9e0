#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/random.hpp"

namespace mlcore::reference {

/// random_normal, one particle at a time.
MLCORE_API void random_normal(std::uint64_t seed, std::uint32_t stream, std::uint64_t step,
                              View<const std::uint32_t, 1> tags, View<double, 2> out);

}  // namespace mlcore::reference
