#include "mlcore/random.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "mlcore/reference/random.hpp"

namespace {

using Words = std::array<std::uint32_t, 4>;

// Known answers published with the Random123 library.
TEST(Random, PhiloxKnownAnswers) {
  EXPECT_EQ(mlcore::philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(mlcore::philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
                               {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(mlcore::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                               {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

std::vector<double> normals(const std::vector<std::uint32_t>& tags, int threads, bool reference) {
  std::vector<double> out(3 * tags.size());
  const auto n = static_cast<std::int64_t>(tags.size());
  const mlcore::View<const std::uint32_t, 1> tag_view(tags.data(), {n});
  const mlcore::View<double, 2> out_view(out.data(), {n, 3});
  const std::uint64_t seed = 0x123456789abcdefull, step = (1ull << 40) + 17;
  if (reference) {
    mlcore::reference::random_normal(seed, 5, step, tag_view, out_view);
  } else {
    mlcore::random_normal(mlcore::Context{threads}, seed, 5, step, tag_view, out_view);
  }
  return out;
}

TEST(Random, MatchesReferenceForAnySizeAndThreadCount) {
  for (std::uint32_t n : {0u, 1u, 7u, 8u, 15u, 16u, 17u, 255u, 257u, 5000u}) {
    std::vector<std::uint32_t> tags(n);
    for (std::uint32_t i = 0; i < n; ++i) tags[i] = 3 * i + 1;
    const auto expected = normals(tags, 1, true);
    for (int threads : {1, 2, 7}) EXPECT_EQ(normals(tags, threads, false), expected) << n;
  }
}

TEST(Random, RejectsWrongShapes) {
  std::vector<std::uint32_t> tags(4);
  std::vector<double> out(9);
  EXPECT_THROW(mlcore::random_normal({}, 0, 0, 0, {tags.data(), {4}}, {out.data(), {3, 3}}),
               mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::random_normal({}, 0, 1u << 30, 0, {tags.data(), {3}}, {out.data(), {3, 3}}),
               mlcore::InvalidArgument);
}

}  // namespace
