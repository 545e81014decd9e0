#include "mlcore/stencil_active.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "mlcore/reference/stencil_active.hpp"

namespace {

using mlcore::Activation;
using mlcore::ActiveEpilogue;
using mlcore::ActiveGrid;
using mlcore::ActiveRules;
using mlcore::ActiveSet;
using mlcore::Boundary;
using mlcore::Context;

template <class T, int Rank>
struct Array {
  std::array<std::int64_t, Rank> shape;
  std::vector<T> values;

  explicit Array(std::array<std::int64_t, Rank> s, T value = std::nan(""))
      : shape(s), values(mlcore::View<T, Rank>(nullptr, s).size(), value) {}
  template <class U>
  explicit Array(const Array<U, Rank>& other)
      : shape(other.shape), values(other.values.begin(), other.values.end()) {}
  mlcore::View<T, Rank> view() { return {values.data(), shape}; }
  mlcore::View<const T, Rank> view() const { return {values.data(), shape}; }
};

template <int Rank>
Array<double, Rank> random_array(std::array<std::int64_t, Rank> shape, unsigned seed) {
  Array<double, Rank> array(shape);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (double& v : array.values) v = normal(engine);
  return array;
}

std::vector<std::int64_t> drawn(const ActiveGrid& grid, double share, unsigned seed, bool shuffle) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> uniform;
  std::vector<std::array<std::int64_t, 4>> rows;
  const auto& n = grid.shape;
  for (std::int64_t v = 0; v < grid.batches * n[0] * n[1] * n[2]; ++v) {
    if (uniform(engine) >= share) continue;
    rows.push_back({v / (n[0] * n[1] * n[2]), v / (n[1] * n[2]) % n[0], v / n[2] % n[1], v % n[2]});
  }
  if (shuffle) std::shuffle(rows.begin(), rows.end(), engine);
  std::vector<std::int64_t> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return flat;
}

ActiveSet set_of(const ActiveGrid& grid, const std::vector<std::int64_t>& rows) {
  return {Context{1}, grid, {rows.data(), {static_cast<std::int64_t>(rows.size() / 4), 4}}};
}

template <class T, int Rank>
double distance(const Array<T, Rank>& a, const Array<double, Rank>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    const double d = std::abs(a.values[i] - b.values[i]);
    if (!(d <= largest)) largest = d;  // a NaN stays
  }
  return largest;
}

/// Convolution, transpose and weight gradient of one configuration against the reference.
template <class T>
void check_all(const ActiveSet& in, const ActiveSet& out, std::int64_t k, std::int64_t C,
               std::int64_t O, double tolerance) {
  const auto features = random_array<2>({in.count(), C}, 1);
  const auto weight = random_array<5>({O, C, k, k, k}, 2);
  const auto bias = random_array<1>({O}, 3);
  const auto residual = random_array<2>({out.count(), O}, 4);
  const Array<T, 2> f(features), r(residual);
  const Array<T, 5> w(weight);
  const Array<T, 1> b(bias);
  const ActiveRules forth(Context{1}, in, out, k), back(Context{1}, out, in, k);
  Array<double, 2> want({out.count(), O}), want_before({out.count(), O});
  mlcore::reference::conv3d_active(
      in, out, features.view(), weight.view(),
      {bias.view(), Activation::silu, residual.view(), want_before.view()}, want.view());
  Array<double, 2> want_back({in.count(), C});
  mlcore::reference::scatter3d_active(in, out, residual.view(), weight.view(), want_back.view());
  Array<double, 5> want_weight({O, C, k, k, k});
  mlcore::reference::conv3d_active_weight_gradient(in, out, features.view(), residual.view(),
                                                   want_weight.view());
  std::vector<Array<T, 2>> firsts;
  for (int threads : {1, 2, 7}) {
    Array<T, 2> got({out.count(), O}), before({out.count(), O}), got_back({in.count(), C});
    Array<T, 5> got_weight({O, C, k, k, k});
    const ActiveEpilogue<T> epilogue{b.view(), Activation::silu, r.view(), before.view()};
    const Context context{threads};
    mlcore::conv3d_active(context, forth.data(), f.view(), w.view(), epilogue, got.view());
    EXPECT_LE(distance(got, want), tolerance);
    EXPECT_LE(distance(before, want_before), tolerance);
    mlcore::scatter3d_active(context, back.data(), r.view(), w.view(), got_back.view());
    EXPECT_LE(distance(got_back, want_back), tolerance);
    mlcore::conv3d_active_weight_gradient(context, forth.data(), f.view(), r.view(),
                                          got_weight.view());
    EXPECT_LE(distance(got_weight, want_weight), tolerance);
    firsts.push_back(got);
  }
  EXPECT_EQ(firsts[0].values, firsts[1].values);
  EXPECT_EQ(firsts[0].values, firsts[2].values);
}

const ActiveGrid kGrids[] = {
    {{4, 5, 6}, 2, Boundary::periodic},  {{4, 5, 6}, 1, Boundary::zero},
    {{2, 3, 70}, 1, Boundary::periodic}, {{3, 2, 129}, 1, Boundary::zero},
    {{1, 1, 64}, 1, Boundary::periodic}, {{1, 2, 1}, 3, Boundary::periodic},
};

TEST(StencilActive, MatchesReferenceForEveryGridAndKernel) {
  for (const ActiveGrid& grid : kGrids) {
    for (const double share : {0.05, 0.4, 1.0}) {
      const ActiveSet set = set_of(grid, drawn(grid, share, 5, share < 1));
      for (std::int64_t k : {1, 3, 5}) check_all<double>(set, set, k, 3, 5, 1e-12);
      check_all<double>(set, set.dilated(3), 3, 2, 3, 1e-12);
      check_all<float>(set, set.dilated(3), 3, 2, 3, 1e-4);
    }
  }
}

TEST(StencilActive, ChannelsAroundTheVectorWidth) {
  const ActiveGrid grid{{3, 4, 5}, 1, Boundary::periodic};
  const ActiveSet set = set_of(grid, drawn(grid, 0.4, 6, false));
  for (std::int64_t C : {1, 2, 7, 8, 9, 15, 16, 17, 31, 33}) {
    check_all<double>(set, set, 3, C, 4, 1e-12);
    check_all<float>(set, set, 3, 4, C, 1e-4);
    check_all<float>(set, set, 3, C, 16, 1e-3);
  }
}

TEST(StencilActive, NoVoxelsGiveNothing) {
  const ActiveGrid grid{{3, 4, 5}, 1, Boundary::periodic};
  const ActiveSet none = set_of(grid, {}), some = set_of(grid, drawn(grid, 0.4, 7, false));
  check_all<double>(none, none, 3, 2, 3, 0);
  check_all<double>(none, some, 3, 2, 3, 1e-12);
  check_all<double>(some, none, 3, 2, 3, 1e-12);
  EXPECT_EQ(none.dilated(5).count(), 0);
}

TEST(StencilActive, RulesDoNotDependOnThreads) {
  const ActiveGrid grid{{40, 20, 70}, 1, Boundary::periodic};
  const ActiveSet set = set_of(grid, drawn(grid, 0.3, 8, true)), wide = set.dilated(3);
  const auto content = [&](int threads) {
    const ActiveRules rules(Context{threads}, set, wide, 5);
    return std::vector<std::int32_t>(rules.data().begin(), rules.data().end());
  };
  const auto one = content(1);
  EXPECT_EQ(one, content(2));
  EXPECT_EQ(one, content(7));
}

TEST(StencilActive, NeighborsFromCoordinates) {
  const ActiveGrid grid{{4, 3, 66}, 2, Boundary::periodic};
  const auto rows = drawn(grid, 0.3, 9, true);
  const ActiveSet set = set_of(grid, rows);
  const std::int64_t M = set.count();
  Array<std::int32_t, 2> a({M, 27}, 0), b({M, 27}, 0);
  mlcore::active_neighbors(ActiveRules(Context{1}, set, set, 3).data(), a.view());
  const mlcore::View<const std::int64_t, 2> view(rows.data(), {M, 4});
  mlcore::active_neighbors(Context{1}, grid, view, view, 3, b.view());
  EXPECT_EQ(a.values, b.values);
  for (std::int64_t row = 0; row < M; ++row) EXPECT_EQ(a.values[27 * row + 13], row);
}

TEST(StencilActive, SaysWhatIsWrong) {
  const ActiveGrid grid{{4, 4, 4}, 1, Boundary::periodic};
  EXPECT_THROW(set_of(grid, {0, 0, 0, 4}), mlcore::InvalidArgument);
  EXPECT_THROW(set_of(grid, {1, 0, 0, 0}), mlcore::InvalidArgument);
  EXPECT_THROW(set_of(grid, {0, 1, 2, 3, 0, 1, 2, 3}), mlcore::InvalidArgument);
  EXPECT_THROW(set_of({{4, 4, 4}, 1, Boundary::halo}, {}), mlcore::InvalidArgument);
  EXPECT_THROW(set_of({{1 << 20, 1 << 20, 1 << 20}, 1, Boundary::zero}, {}),
               mlcore::InvalidArgument);
  const ActiveSet set = set_of(grid, {0, 1, 2, 3});
  const ActiveSet other = set_of({{4, 4, 5}, 1, Boundary::periodic}, {});
  EXPECT_THROW(ActiveRules(Context{1}, set, other, 3), mlcore::InvalidArgument);
  EXPECT_THROW(ActiveRules(Context{1}, set, set, 2), mlcore::InvalidArgument);
  EXPECT_THROW(set.dilated(7), mlcore::InvalidArgument);
  const ActiveRules rules(Context{1}, set, set, 3);
  Array<double, 2> one({1, 1}, 0), two({2, 1}, 0), result({1, 1}, 0), results({2, 1}, 0);
  Array<double, 5> weight({1, 1, 3, 3, 3}, 0), wide({1, 1, 5, 5, 5}, 0);
  const auto call = [&](const auto& f, const auto& w, auto& out) {
    mlcore::conv3d_active(Context{1}, rules.data(), f.view(), std::as_const(w).view(), {},
                          out.view());
  };
  EXPECT_NO_THROW(call(std::as_const(one), weight, result));
  EXPECT_THROW(call(std::as_const(one), weight, one), mlcore::InvalidArgument);
  EXPECT_THROW(call(std::as_const(two), weight, result), mlcore::InvalidArgument);
  EXPECT_THROW(call(std::as_const(one), wide, result), mlcore::InvalidArgument);
  EXPECT_THROW(call(std::as_const(one), weight, results), mlcore::InvalidArgument);
  auto elsewhere = rules.data();
  elsewhere.device = mlcore::Device::cuda;
  EXPECT_THROW(mlcore::scatter3d_active(Context{1}, elsewhere, std::as_const(one).view(),
                                        std::as_const(weight).view(), result.view()),
               mlcore::InvalidArgument);
}

}  // namespace
