#include "mlcore/voxels.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "mlcore/reference/voxels.hpp"

namespace {

using mlcore::Cell;
using mlcore::Context;
using mlcore::VoxelGrid;
using mlcore::VoxelKernel;
using mlcore::VoxelLayout;
using mlcore::VoxelOptions;
using mlcore::VoxelPoints;
using mlcore::VoxelScheme;
using Numbers = std::vector<double>;

const std::array<double, 9> kCells[] = {
    {4, 0, 0, 0, 5, 0, 0, 0, 6},        // orthogonal
    {4, 0.3, 0, 1, 5, 0.2, -2, 1, 6},   // triclinic
    {0, 5, 0.5, 4, 0.3, 0, 0.2, 0, 6},  // left-handed
};
const std::array<std::int64_t, 3> kShapes[] = {{1, 1, 1}, {1, 2, 3}, {8, 9, 7}, {17, 4, 6}};

VoxelKernel kernel_of(int scheme) {
  VoxelKernel kernel;
  kernel.scheme = static_cast<VoxelScheme>(scheme);
  kernel.sigma = 0.45, kernel.truncation = 3;
  kernel.radius = 0.9, kernel.edge = 0.6;
  return kernel;
}

Numbers uniform(std::size_t count, double low, double high, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> draw(low, high);
  Numbers values(count);
  for (double& value : values) value = draw(generator);
  return values;
}

double largest(const Numbers& v) {
  double most = 0;
  for (double value : v) most = std::fmax(most, std::fabs(value));
  return most;
}

void expect_near(const Numbers& got, const Numbers& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  const double bound = tolerance * (1 + largest(want));
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], bound) << i;
}

/// Points, features and fields of one case.
struct Sample {
  VoxelGrid grid;
  std::int64_t n, channels;
  Numbers x, along, features, field;

  Sample(const VoxelGrid& grid, std::int64_t n, std::int64_t channels)
      : grid(grid),
        n(n),
        channels(channels),
        x(uniform(3 * n, -4, 10, 1)),
        along(uniform(3 * n, -1, 1, 2)),
        features(uniform(n * channels, -1, 1, 3)),
        field(uniform(voxels() * channels, -1, 1, 4)) {}

  std::int64_t voxels() const { return grid.shape[0] * grid.shape[1] * grid.shape[2]; }
  VoxelPoints points(bool directional) const {
    VoxelPoints points{{x.data(), {n, 3}}, {}, {}};
    if (directional) points.direction = {along.data(), {n, 3}};
    return points;
  }
  mlcore::View<const double, 2> feature_view() const { return {features.data(), {n, channels}}; }
  mlcore::View<const double, 2> flat_field() const { return {field.data(), {voxels(), channels}}; }
  std::array<std::int64_t, 5> field_shape() const {
    return {1, grid.shape[0], grid.shape[1], grid.shape[2], channels};
  }
};

constexpr VoxelOptions kLast{false, VoxelLayout::channels_last, true};

Numbers spread(const Sample& s, const VoxelKernel& kernel, bool directional, int threads) {
  Numbers out(s.voxels() * s.channels, NAN);
  mlcore::rasterize<double>(Context{threads}, s.grid, kernel, s.points(directional),
                            s.feature_view(), {out.data(), s.field_shape()}, kLast);
  return out;
}

Numbers gathered(const Sample& s, const VoxelKernel& kernel, bool directional, int threads) {
  Numbers out(s.n * s.channels, NAN);
  mlcore::gather<double>(Context{threads}, s.grid, kernel, s.points(directional),
                         {s.field.data(), s.field_shape()}, {out.data(), {s.n, s.channels}}, kLast);
  return out;
}

Numbers slopes(const Sample& s, const VoxelKernel& kernel, bool directional, int threads) {
  Numbers out(3 * s.n, NAN);
  mlcore::voxel_position_gradient<double>(Context{threads}, s.grid, kernel, s.points(directional),
                                          s.feature_view(), {s.field.data(), s.field_shape()},
                                          {out.data(), {s.n, 3}}, kLast);
  return out;
}

TEST(Voxels, MatchTheReferenceForEveryCellBoundaryAndKernel) {
  for (const auto& rows : kCells) {
    for (const auto& shape : kShapes) {
      for (int mask = 0; mask < 8; ++mask) {
        const Cell cell{rows, {bool(mask & 1), bool(mask & 2), bool(mask & 4)}};
        const Sample s({shape, cell}, 40, 1 + mask % 3);
        for (int scheme = 0; scheme < 5; ++scheme) {
          for (bool directional : {false, true}) {
            if (directional && scheme == 0) continue;
            const VoxelKernel kernel = kernel_of(scheme);
            const VoxelPoints points = s.points(directional);
            Numbers want(s.voxels() * s.channels);
            mlcore::reference::rasterize(s.grid, kernel, points, s.feature_view(),
                                         {want.data(), {s.voxels(), s.channels}});
            expect_near(spread(s, kernel, directional, 1), want, 1e-12);
            want.assign(s.n * s.channels, 0);
            mlcore::reference::gather(s.grid, kernel, points, s.flat_field(),
                                      {want.data(), {s.n, s.channels}});
            expect_near(gathered(s, kernel, directional, 1), want, 1e-12);
            if (scheme == 0) continue;
            want.assign(3 * s.n, 0);
            mlcore::reference::voxel_position_gradient(s.grid, kernel, points, s.feature_view(),
                                                       s.flat_field(), {want.data(), {s.n, 3}});
            expect_near(slopes(s, kernel, directional, 1), want, 3e-11);
          }
        }
      }
    }
  }
}

/// The reference's derivatives against differences of its weights.
TEST(Voxels, ReferenceDerivativesAreThoseOfItsWeights) {
  for (int scheme = 1; scheme < 5; ++scheme) {
    const VoxelGrid grid{{9, 9, 9}, {kCells[1], {true, true, true}}};
    const VoxelKernel kernel = kernel_of(scheme);
    const double x[3] = {1.21, 2.53, 2.87}, h = 1e-5;
    const auto taps = mlcore::reference::voxel_taps(grid, kernel, x);
    for (int k = 0; k < 3; ++k) {
      double above[3] = {x[0], x[1], x[2]}, below[3] = {x[0], x[1], x[2]};
      above[k] += h, below[k] -= h;
      const auto up = mlcore::reference::voxel_taps(grid, kernel, above);
      const auto down = mlcore::reference::voxel_taps(grid, kernel, below);
      ASSERT_EQ(up.size(), taps.size());
      ASSERT_EQ(down.size(), taps.size());
      for (std::size_t t = 0; t < taps.size(); ++t) {
        EXPECT_NEAR((up[t].weight - down[t].weight) / (2 * h), taps[t].gradient[k], 1e-7);
        for (int l = 0; l < 3; ++l) {
          const double slope = (up[t].gradient[l] - down[t].gradient[l]) / (2 * h);
          EXPECT_NEAR(slope, taps[t].hessian[3 * k + l], 1e-6 * (1 + std::fabs(slope)));
        }
      }
    }
  }
}

TEST(Voxels, ThreadsDoNotChangeABit) {
  for (int scheme = 0; scheme < 5; ++scheme) {
    for (bool periodic : {true, false}) {
      const VoxelGrid grid{{21, 16, 20}, {kCells[1], {periodic, true, periodic}}};
      const Sample s(grid, scheme < 3 ? 20000 : 500, 8);
      for (bool directional : {false, true}) {
        if (directional && scheme == 0) continue;
        const VoxelKernel kernel = kernel_of(scheme);
        const Numbers one = spread(s, kernel, directional, 1);
        const Numbers values = gathered(s, kernel, directional, 1);
        for (int threads : {2, 7}) {
          EXPECT_EQ(spread(s, kernel, directional, threads), one) << scheme << " " << threads;
          EXPECT_EQ(gathered(s, kernel, directional, threads), values) << scheme;
        }
      }
    }
  }
}

TEST(Voxels, EveryNumberOfChannelsAndPoints) {
  const VoxelGrid grid{{6, 5, 7}, {kCells[0], {true, false, true}}};
  for (std::int64_t channels = 1; channels <= 35; ++channels) {
    for (std::int64_t n : {0, 1, 63, 64, 65}) {
      const Sample s(grid, n, channels);
      for (int scheme : {0, 1, 2, 3}) {
        Numbers want(s.voxels() * channels);
        mlcore::reference::rasterize(grid, kernel_of(scheme), s.points(false), s.feature_view(),
                                     {want.data(), {s.voxels(), channels}});
        expect_near(spread(s, kernel_of(scheme), false, 1), want, 1e-12);
      }
    }
  }
}

TEST(Voxels, LayoutsHoldTheSameNumbers) {
  const VoxelGrid grid{{16, 15, 17}, {kCells[1], {true, true, true}}};
  for (std::int64_t n : {3, 2000}) {  // channel by channel, and turned around
    for (std::int64_t channels : {1, 3, 8, 16, 21}) {
      const Sample s(grid, n, channels);
      for (int scheme : {1, 2, 3}) {
        const Numbers last = spread(s, kernel_of(scheme), false, 2);
        Numbers first(last.size());
        const std::array<std::int64_t, 5> shape{1, channels, 16, 15, 17};
        mlcore::rasterize<double>(Context{2}, grid, kernel_of(scheme), s.points(false),
                                  s.feature_view(), {first.data(), shape});
        Numbers turned(last.size()), values(n * channels), want(n * channels);
        for (std::int64_t v = 0; v < s.voxels(); ++v) {
          for (std::int64_t c = 0; c < channels; ++c) {
            turned[v * channels + c] = first[c * s.voxels() + v];
          }
        }
        expect_near(turned, last, 1e-13);
        mlcore::gather<double>(Context{2}, grid, kernel_of(scheme), s.points(false),
                               {first.data(), shape}, {values.data(), {n, channels}});
        mlcore::reference::gather(grid, kernel_of(scheme), s.points(false),
                                  {turned.data(), {s.voxels(), channels}},
                                  {want.data(), {n, channels}});
        expect_near(values, want, 1e-12);
      }
    }
  }
}

TEST(Voxels, SinglePrecisionFollowsDouble) {
  const VoxelGrid grid{{6, 5, 7}, {kCells[1], {true, false, true}}};
  const Sample s(grid, 300, 11);
  const std::vector<float> features(s.features.begin(), s.features.end());
  for (int scheme = 0; scheme < 5; ++scheme) {
    std::vector<float> out(s.voxels() * s.channels);
    mlcore::rasterize<float>({}, grid, kernel_of(scheme), s.points(false),
                             {features.data(), {s.n, s.channels}}, {out.data(), s.field_shape()},
                             kLast);
    expect_near(Numbers(out.begin(), out.end()), spread(s, kernel_of(scheme), false, 1), 1e-6);
  }
}

TEST(Voxels, SystemsStandApart) {
  const VoxelGrid grid{{6, 5, 7}, {kCells[0], {true, true, true}}};
  const Sample s(grid, 30, 4);
  const std::int64_t offsets[] = {0, 12, 12, 30};
  VoxelPoints points = s.points(false);
  points.offsets = {offsets, {4}};
  const std::size_t size = s.voxels() * s.channels;
  Numbers fields(3 * size), one(size);
  const std::array<std::int64_t, 5> shape{3, 6, 5, 7, 4};
  mlcore::rasterize<double>(Context{3}, grid, kernel_of(2), points, s.feature_view(),
                            {fields.data(), shape}, kLast);
  for (int b = 0; b < 3; ++b) {
    const std::int64_t begin = offsets[b], n = offsets[b + 1] - begin;
    mlcore::rasterize<double>({}, grid, kernel_of(2), {{&s.x[3 * begin], {n, 3}}, {}, {}},
                              {&s.features[4 * begin], {n, 4}}, {one.data(), s.field_shape()},
                              kLast);
    EXPECT_EQ(std::memcmp(one.data(), &fields[b * size], 8 * size), 0) << b;
  }
}

TEST(Voxels, BinsComeBackBitForBit) {
  for (const auto& rows : kCells) {
    for (const auto& shape : kShapes) {
      const VoxelGrid grid{shape, {rows, {true, true, true}}};
      const std::int64_t voxels = shape[0] * shape[1] * shape[2], n = 500;
      Numbers x = uniform(3 * n, -50, 50, 6);
      const double awkward[] = {0.0, -0.0, 5e-324, -1e-300, -1e-20, 4, 5, 6, -4, 1e9};
      std::copy(std::begin(awkward), std::end(awkward), x.begin());
      std::vector<std::int64_t> cell(n), ulps(3 * n), order(n), starts(voxels + 1);
      std::vector<std::int32_t> image(3 * n);
      Numbers offset(3 * n), back(3 * n);
      mlcore::bin_atoms(Context{3}, grid, {x.data(), {n, 3}},
                        {{cell.data(), {n}},
                         {offset.data(), {n, 3}},
                         {image.data(), {n, 3}},
                         {ulps.data(), {n, 3}},
                         {order.data(), {n}},
                         {starts.data(), {voxels + 1}}});
      mlcore::unbin_atoms({}, grid, {cell.data(), {n}}, {offset.data(), {n, 3}},
                          {image.data(), {n, 3}}, {ulps.data(), {n, 3}}, {back.data(), {n, 3}});
      EXPECT_EQ(std::memcmp(back.data(), x.data(), 8 * x.size()), 0);
      EXPECT_EQ(starts[voxels], n);
      for (std::int64_t v = 0; v < voxels; ++v) {
        for (std::int64_t k = starts[v]; k < starts[v + 1]; ++k) {
          EXPECT_EQ(cell[order[k]], v);
          if (k > starts[v]) EXPECT_LT(order[k - 1], order[k]);
        }
      }
    }
  }
}

TEST(Voxels, RejectBadArguments) {
  const VoxelGrid grid{{4, 4, 4}, Cell::cubic(4)};
  const auto refused = [](const VoxelGrid& grid, const VoxelKernel& kernel, const Numbers& x,
                          bool directional = false) {
    const Numbers features(2, 1.0);
    Numbers field(64);
    const std::int64_t n = static_cast<std::int64_t>(x.size()) / 3;
    VoxelPoints points{{x.data(), {n, 3}}, {}, {}};
    if (directional) points.direction = points.x;
    EXPECT_THROW(mlcore::rasterize<double>({}, grid, kernel, points, {features.data(), {n, 1}},
                                           {field.data(), {1, 1, 4, 4, 4}}),
                 mlcore::InvalidArgument);
  };
  const double infinity = std::numeric_limits<double>::infinity();
  refused(grid, kernel_of(1), {0, NAN, 0});
  refused(grid, kernel_of(1), {0, 0, 0, 0, 0, infinity});
  refused(grid, kernel_of(1), {1e11, 0, 0});
  refused({{4, 4, 4}, {kCells[0], {}}}, kernel_of(3), {0, -infinity, 0});
  refused({{4, 0, 4}, Cell::cubic(4)}, kernel_of(1), {0, 0, 0});
  refused({{4, 4, std::int64_t{1} << 40}, Cell::cubic(4)}, kernel_of(1), {0, 0, 0});
  refused({{4, 4, 5}, Cell::cubic(4)}, kernel_of(1), {0, 0, 0});
  refused({{4, 4, 4}, Cell::open()}, kernel_of(1), {0, 0, 0});
  refused(grid, {VoxelScheme::gaussian, -1}, {0, 0, 0});
  refused(grid, {VoxelScheme::gaussian, 1e9}, {0, 0, 0});
  refused(grid, {VoxelScheme::sphere, 0, 0, 1, 3}, {0, 0, 0});
  refused(grid, kernel_of(0), {0, 0, 0}, true);
  refused(grid, {VoxelScheme::sphere, 0, 0, 1, 0}, {0, 0, 0}, true);
}

}  // namespace
