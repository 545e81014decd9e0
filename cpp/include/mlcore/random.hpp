#pragma once

#include <array>
#include <cstdint>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// One block of Philox4x32-10 (Salmon et al., SC 2011): four random 32-bit words from a counter
/// and a key. Pure function of its arguments.
MLCORE_API std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                   std::array<std::uint32_t, 2> key);

/// Standard normal numbers for particles at one time step: three per particle, the same whatever
/// the thread count, rank count or device.
///
/// counter = (step low, step high, tag, 4 * stream + component block), key = (seed low, seed high);
/// Box-Muller in double with one 32-bit word per uniform; numbers 0 and 1 come from words 0 and 1
/// of block 0, number 2 is the first number of words 2 and 3 of block 0.
///
/// `out` on a GPU is filled there, with the same numbers to rounding; tags may then be on either.
///
/// @param stream  below 2^30; separates independent users of one seed
/// @param tags    (n,) particle identities
/// @param out     (n, 3)
/// @throws InvalidArgument  shapes differ or stream is too large
MLCORE_API void random_normal(const Context& context, std::uint64_t seed, std::uint32_t stream,
                              std::uint64_t step, View<const std::uint32_t, 1> tags,
                              View<double, 2> out);

}  // namespace mlcore
