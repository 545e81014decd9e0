#include "mlcore/reference/random.hpp"

#include <cmath>
#include <numbers>

#include "../philox.hpp"

namespace mlcore::reference {
namespace {

struct Pair {
  double first, second;
};

Pair box_muller(std::uint32_t word0, std::uint32_t word1) {
  const double radius = std::sqrt(-2.0 * std::log(detail::open_uniform(word0)));
  const double angle = 2.0 * std::numbers::pi * detail::open_uniform(word1);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace

void random_normal(std::uint64_t seed, std::uint32_t stream, std::uint64_t step,
                   View<const std::uint32_t, 1> tags, View<double, 2> out) {
  for (std::int64_t i = 0; i < tags.size(); ++i) {
    std::uint32_t words[4] = {static_cast<std::uint32_t>(step),
                              static_cast<std::uint32_t>(step >> 32), tags(i), 4 * stream};
    detail::philox4x32_10(words, static_cast<std::uint32_t>(seed),
                          static_cast<std::uint32_t>(seed >> 32));
    const Pair xy = box_muller(words[0], words[1]);
    out(i, 0) = xy.first;
    out(i, 1) = xy.second;
    out(i, 2) = box_muller(words[2], words[3]).first;
  }
}

}  // namespace mlcore::reference
