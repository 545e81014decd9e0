#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

// Philox words 0..3 of block 0 for `count` particles, structure of arrays: words[k * count + i].
MLCORE_DECLARE_PER_ISA(void philox_words(std::int64_t count, const std::uint32_t* tags,
                                         std::uint64_t seed, std::uint32_t stream,
                                         std::uint64_t step, std::uint32_t* words);)

}  // namespace mlcore::kernels
