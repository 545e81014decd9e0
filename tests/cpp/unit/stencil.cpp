#include "mlcore/stencil.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "mlcore/reference/stencil.hpp"

namespace {

using mlcore::Activation;
using mlcore::Boundary;
using mlcore::Context;
using mlcore::Epilogue;
using mlcore::FieldLayout;
using mlcore::Stencil;
using Shape = std::array<std::int64_t, 5>;

template <class T>
struct Field {
  Shape shape{};
  std::vector<T> values;

  Field() = default;
  explicit Field(const Shape& s, T value = std::numeric_limits<T>::quiet_NaN())
      : shape(s), values(s[0] * s[1] * s[2] * s[3] * s[4], value) {}
  mlcore::View<T, 5> view() { return {values.data(), shape}; }
  mlcore::View<const T, 5> view() const { return {values.data(), shape}; }
};

Field<double> random_field(const Shape& shape, unsigned seed) {
  Field<double> field(shape);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (double& v : field.values) v = normal(engine);
  return field;
}

template <class T>
Field<T> as(const Field<double>& field) {
  Field<T> result(field.shape);
  std::transform(field.values.begin(), field.values.end(), result.values.begin(),
                 [](double v) { return static_cast<T>(v); });
  return result;
}

template <class T>
double difference(const Field<double>& expected, const Field<T>& got) {
  double worst = 0, scale = 0.1;  // sums may cancel to nothing
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double error = std::abs(expected.values[i] - static_cast<double>(got.values[i]));
    worst = std::isnan(error) ? error : std::max(worst, error);
    if (std::isnan(worst)) return worst;
    scale = std::max(scale, std::abs(expected.values[i]));
  }
  return worst / scale;
}

template <class T>
constexpr double kTolerance = sizeof(T) == 8 ? 1e-13 : 2e-5;

/// A convolution: shapes of the field, the weights and the result.
struct Problem {
  Stencil stencil;
  Shape field, weight, result;
};

Shape stored(FieldLayout layout, std::int64_t b, std::int64_t c,
             const std::array<std::int64_t, 3>& n) {
  if (layout == FieldLayout::channels_first) return {b, c, n[0], n[1], n[2]};
  return {b, n[0], n[1], n[2], c};
}

/// @param n  extents of the stride-1 result
Problem problem(const Stencil& stencil, std::int64_t k, std::int64_t b, std::int64_t inputs,
                std::int64_t outputs, std::array<std::int64_t, 3> n) {
  std::array<std::int64_t, 3> result = n;
  for (auto& extent : result) extent = (extent + stencil.stride - 1) / stencil.stride;
  if (stencil.boundary == Boundary::halo) {
    for (auto& extent : n) extent += 2 * (k / 2);
  }
  return {stencil,
          stored(stencil.layout, b, inputs, n),
          {outputs, inputs / stencil.groups, k, k, k},
          stored(stencil.layout, b, outputs, result)};
}

/// The three linear maps by the reference.
struct Expected {
  Field<double> field, weight, values;
  Field<double> convolved, scattered, gradient;

  explicit Expected(const Problem& p)
      : field(random_field(p.field, 1)),
        weight(random_field(p.weight, 2)),
        values(random_field(p.result, 3)),
        convolved(p.result),
        scattered(p.field),
        gradient(p.weight) {
    namespace reference = mlcore::reference;
    reference::conv3d(p.stencil, field.view(), weight.view(), {}, convolved.view());
    reference::scatter3d(p.stencil, values.view(), weight.view(), scattered.view());
    reference::conv3d_weight_gradient(p.stencil, field.view(), values.view(), gradient.view());
  }
};

/// What `run` fills agrees with the reference and is the same on any number of threads.
template <class T, class Run>
void expect_filled(const char* name, const Field<double>& expected, const Run& run) {
  Field<T> alone(expected.shape), threaded(expected.shape);
  run(Context{1}, alone.view());
  run(Context{3}, threaded.view());
  EXPECT_LT(difference(expected, alone), kTolerance<T>) << name;
  EXPECT_EQ(alone.values, threaded.values) << name;
}

template <class T>
void expect_like(const Problem& p, const Expected& e) {
  const Field<T> f = as<T>(e.field), w = as<T>(e.weight), v = as<T>(e.values);
  using Out = mlcore::View<T, 5>;
  expect_filled<T>("conv3d", e.convolved, [&](const Context& context, Out out) {
    mlcore::conv3d(context, p.stencil, f.view(), w.view(), {}, out);
  });
  expect_filled<T>("scatter3d", e.scattered, [&](const Context& context, Out out) {
    mlcore::scatter3d(context, p.stencil, v.view(), w.view(), out);
  });
  expect_filled<T>("weight gradient", e.gradient, [&](const Context& context, Out out) {
    mlcore::conv3d_weight_gradient(context, p.stencil, f.view(), v.view(), out);
  });
}

void expect_like_reference(const Problem& p) {
  const Expected expected(p);
  expect_like<double>(p, expected);
  expect_like<float>(p, expected);
}

class EveryStencil : public testing::TestWithParam<std::tuple<Boundary, FieldLayout, int>> {
 protected:
  Stencil stencil(std::int64_t stride = 1, std::int64_t groups = 1) const {
    return {std::get<0>(GetParam()), stride, groups, std::get<1>(GetParam())};
  }
  int taps() const { return std::get<2>(GetParam()); }
};

TEST_P(EveryStencil, AgreesWithTheReference) {
  using Case = std::tuple<std::array<std::int64_t, 3>, std::int64_t, std::int64_t>;
  for (const auto& [n, inputs, outputs] : {Case{{3, 3, 33}, 4, 5},
                                           {{2, 5, 18}, 5, 8},
                                           {{1, 1, 1}, 4, 6},
                                           {{2, 1, 2}, 1, 3},
                                           {{1, 2, 65}, 3, 1},
                                           {{2, 18, 3}, 8, 4}}) {
    SCOPED_TRACE(testing::Message()
                 << n[0] << "x" << n[1] << "x" << n[2] << ", " << inputs << " -> " << outputs);
    expect_like_reference(problem(stencil(), taps(), 2, inputs, outputs, n));
  }
}

TEST_P(EveryStencil, StridesAndGroups) {
  for (const auto& [stride, groups] : {std::pair{2, 1}, {3, 2}, {1, 4}, {7, 1}}) {
    SCOPED_TRACE(testing::Message() << "stride " << stride << ", groups " << groups);
    const Stencil s = stencil(stride, groups);
    expect_like_reference(problem(s, taps(), 2, 2 * groups, 4, {3, 4, 19}));
    expect_like_reference(problem(s, taps(), 1, groups, 2 * groups, {4, 3, 8}));
  }
}

TEST_P(EveryStencil, Epilogue) {
  const Problem p = problem(stencil(), taps(), 2, 4, 5, {3, 4, 17});
  const Field<double> field = random_field(p.field, 1), weight = random_field(p.weight, 2);
  const Field<double> residual = random_field(p.result, 3);
  const Field<double> bias = random_field({1, 1, 1, 1, 5}, 4);
  for (const std::int64_t masks : {1, 2}) {
    std::vector<std::uint8_t> mask(masks * 3 * 4 * 17);
    for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 3 != 0;
    for (int a = 0; a <= 5; ++a) {
      Epilogue<double> e;
      Field<double> before(p.result), before_expected(p.result);
      e.bias = {bias.values.data(), {5}};
      e.activation = static_cast<Activation>(a);
      e.residual = residual.view();
      e.mask = {mask.data(), {masks, 3, 4, 17}};
      Field<double> expected(p.result), got(p.result);
      e.preactivation = before_expected.view();
      mlcore::reference::conv3d(p.stencil, field.view(), weight.view(), e, expected.view());
      e.preactivation = before.view();
      mlcore::conv3d(Context{1}, p.stencil, field.view(), weight.view(), e, got.view());
      EXPECT_LT(difference(expected, got), 1e-13) << "activation " << a;
      EXPECT_LT(difference(before_expected, before), 1e-13) << "activation " << a;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Stencil, EveryStencil,
    testing::Combine(testing::Values(Boundary::periodic, Boundary::zero, Boundary::halo),
                     testing::Values(FieldLayout::channels_first, FieldLayout::channels_last),
                     testing::Values(1, 3, 5)));

TEST(Stencil, ActivationsHoldFarOut) {
  std::vector<double> values = {-1e4, -745, -100, -20, -1e-3, -1e-9, 0,
                                1e-9, 1e-3, 20,   100, 745,   1e4};
  for (double x = -12; x < 12; x += 0.03125) values.push_back(x);
  const auto n = static_cast<std::int64_t>(values.size());
  Field<double> field({1, 1, 1, 1, n}), weight({1, 1, 1, 1, 1}, 1.0);
  field.values = values;
  for (int a = 1; a <= 5; ++a) {
    Epilogue<double> e;
    Epilogue<float> ef;
    e.activation = ef.activation = static_cast<Activation>(a);
    Field<double> expected(field.shape), got(field.shape);
    mlcore::reference::conv3d({}, field.view(), weight.view(), e, expected.view());
    mlcore::conv3d({}, {}, field.view(), weight.view(), e, got.view());
    Field<float> single(field.shape);
    const auto f = as<float>(field), w = as<float>(weight);
    mlcore::conv3d({}, {}, f.view(), w.view(), ef, single.view());
    for (std::int64_t i = 0; i < n; ++i) {
      // exp(-x^2 / 2), in gelu, has the relative error of its argument.
      const double amplified = a == 3 ? 1 + std::min(values[i] * values[i], 1e3) : 1;
      const double scale = amplified * std::abs(expected.values[i]);
      EXPECT_NEAR(got.values[i], expected.values[i], 6e-16 * scale + 1e-300)
          << a << " " << values[i];
      EXPECT_NEAR(single.values[i], expected.values[i], 4e-7 * scale + 1e-30)
          << a << " " << values[i];
    }
  }
}

TEST(Stencil, NanReachesTheVoxelsThatSeeItAlone) {
  const Problem p = problem({}, 3, 1, 4, 4, {4, 6, 20});
  Field<double> field = random_field(p.field, 1);
  const Field<double> weight = random_field(p.weight, 2);
  field.values[(1 * 6 + 2) * 20 + 7] = std::numeric_limits<double>::quiet_NaN();
  Field<double> out(p.result, 0.0);
  mlcore::conv3d({}, p.stencil, field.view(), weight.view(), {}, out.view());
  for (std::int64_t i = 0; i < 4 * 4 * 6 * 20; ++i) {
    const std::int64_t x = i / 120 % 4, y = i / 20 % 6, z = i % 20;
    const bool sees = std::abs(x - 1) <= 1 && std::abs(y - 2) <= 1 && std::abs(z - 7) <= 1;
    EXPECT_EQ(std::isnan(out.values[i]), sees) << x << " " << y << " " << z;
  }
}

TEST(Stencil, EmptyBatch) {
  const Problem p = problem({}, 3, 0, 4, 4, {4, 6, 20});
  const Field<double> field(p.field), weight = random_field(p.weight, 2);
  Field<double> out(p.result), gradient(p.weight);
  mlcore::conv3d({}, p.stencil, field.view(), weight.view(), {}, out.view());
  mlcore::conv3d_weight_gradient({}, p.stencil, field.view(), out.view(), gradient.view());
  EXPECT_EQ(gradient.values, std::vector<double>(gradient.values.size(), 0.0));
}

TEST(Stencil, BadInputIsNamed) {
  const Problem p = problem({}, 3, 1, 4, 4, {4, 6, 20});
  Field<double> field = random_field(p.field, 1), weight = random_field(p.weight, 2);
  Field<double> out(p.result);
  const auto message = [&](const Stencil& s, const Shape& f, const Shape& w, const Shape& o) {
    try {
      mlcore::conv3d({}, s, {field.values.data(), f}, {weight.values.data(), w}, {},
                     {out.values.data(), o});
    } catch (const mlcore::InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto starts = [](const std::string& s, const char* with) { return s.rfind(with, 0) == 0; };
  Stencil bad;
  bad.stride = 0;
  EXPECT_PRED2(starts, message(bad, p.field, p.weight, p.result), "stride");
  bad = {};
  bad.groups = 3;
  EXPECT_PRED2(starts, message(bad, p.field, p.weight, p.result), "groups");
  EXPECT_PRED2(starts, message({}, p.field, {4, 4, 2, 2, 2}, p.result), "weight");
  EXPECT_PRED2(starts, message({}, p.field, {4, 3, 3, 3, 3}, p.result), "field");
  EXPECT_PRED2(starts, message({}, p.field, p.weight, {1, 4, 4, 6, 19}), "out");
  EXPECT_PRED2(starts, message({Boundary::halo}, {1, 4, 1, 6, 20}, p.weight, p.result), "field");
  EXPECT_THROW(mlcore::conv3d({}, {}, field.view(), weight.view(), {}, field.view()),
               mlcore::InvalidArgument);
}

class EveryDifference : public testing::TestWithParam<std::tuple<int, int, Boundary>> {};

TEST_P(EveryDifference, AgreesWithTheReferenceAndItsTranspose) {
  mlcore::FiniteDifference d;
  d.derivative = static_cast<mlcore::Derivative>(std::get<0>(GetParam()));
  d.order = std::get<1>(GetParam());
  d.boundary = std::get<2>(GetParam());
  d.spacing = {0.5, 1.25, 2};
  const std::int64_t results = d.derivative == mlcore::Derivative::gradient ? 3 : 1;
  const std::int64_t halo = d.boundary == Boundary::halo ? d.order : 0;
  for (const auto& n :
       std::vector<std::array<std::int64_t, 3>>{{5, 4, 18}, {1, 2, 1}, {2, 9, 100}, {3, 1, 2}}) {
    const Field<double> f5 = random_field({1, 2, n[0] + halo, n[1] + halo, n[2] + halo}, 1);
    const mlcore::View<const double, 4> field = f5.view()[0];
    Field<double> expected({2, results, n[0], n[1], n[2]});
    Field<double> got = expected, threaded = expected;
    mlcore::reference::finite_difference(d, field, expected.view());
    mlcore::finite_difference(Context{1}, d, field, got.view());
    mlcore::finite_difference(Context{2}, d, field, threaded.view());
    EXPECT_LT(difference(expected, got), 1e-13);
    EXPECT_EQ(got.values, threaded.values);
    Field<float> single(expected.shape);
    const Field<float> f4 = as<float>(f5);
    mlcore::finite_difference({}, d, f4.view()[0], single.view());
    EXPECT_LT(difference(expected, single), 1e-5);

    const Field<double> values = random_field(expected.shape, 2);
    Field<double> back(f5.shape);
    mlcore::finite_difference_adjoint({}, d, values.view(), back.view()[0]);
    double left = 0, right = 0;
    for (std::size_t i = 0; i < got.values.size(); ++i) left += got.values[i] * values.values[i];
    for (std::size_t i = 0; i < f5.values.size(); ++i) right += f5.values[i] * back.values[i];
    EXPECT_NEAR(left, right, 1e-11 * (std::abs(left) + 1));
  }
}

INSTANTIATE_TEST_SUITE_P(Stencil, EveryDifference,
                         testing::Combine(testing::Values(0, 1), testing::Values(2, 4, 6),
                                          testing::Values(Boundary::periodic, Boundary::zero,
                                                          Boundary::halo)));

}  // namespace
