#include "mlcore/random.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/random.hpp"
#include "parallel.hpp"
#include "philox.hpp"
#include "random_cuda.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kBlock = 256;

void fill_block(std::uint64_t seed, std::uint32_t stream, std::uint64_t step,
                const std::uint32_t* tags, std::int64_t count, double* out) {
  std::uint32_t words[4 * kBlock];
  MLCORE_DISPATCH(philox_words)(count, tags, seed, stream, step, words);
  for (std::int64_t i = 0; i < count; ++i) {
    const double u0 = detail::open_uniform(words[i]);
    const double u1 = detail::open_uniform(words[count + i]);
    const double u2 = detail::open_uniform(words[2 * count + i]);
    const double u3 = detail::open_uniform(words[3 * count + i]);
    const double radius = std::sqrt(-2.0 * std::log(u0));
    const double angle = 2.0 * std::numbers::pi * u1;
    out[3 * i] = radius * std::cos(angle);
    out[3 * i + 1] = radius * std::sin(angle);
    out[3 * i + 2] = std::sqrt(-2.0 * std::log(u2)) * std::cos(2.0 * std::numbers::pi * u3);
  }
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  detail::philox4x32_10(counter.data(), key[0], key[1]);
  return counter;
}

void random_normal(const Context& context, std::uint64_t seed, std::uint32_t stream,
                   std::uint64_t step, View<const std::uint32_t, 1> tags, View<double, 2> out) {
  MLCORE_CHECK(stream < (1u << 30), "stream must be below 2^30, got ", stream);
  MLCORE_CHECK(out.shape[0] == tags.shape[0] && out.shape[1] == 3,
               "out must have the shape (n, 3) with n = ", tags.shape[0], ", got (", out.shape[0],
               ", ", out.shape[1], ")");
  MLCORE_CHECK(tags.device == Device::cpu || out.device == Device::cuda,
               "tags on a GPU need out there");
  if (out.device == Device::cuda) {
    return cuda::random_normal(context, seed, stream, step, tags, out);
  }
  detail::parallel_for(context, tags.size(), 4 * kBlock,
                       [&](std::int64_t begin, std::int64_t end, int) {
                         for (std::int64_t i = begin; i < end; i += kBlock) {
                           fill_block(seed, stream, step, tags.data + i, std::min(kBlock, end - i),
                                      out.data + 3 * i);
                         }
                       });
}

}  // namespace mlcore
