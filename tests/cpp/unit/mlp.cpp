#include "mlcore/mlp.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "mlcore/reference/mlp.hpp"

namespace {

using mlcore::Mlp;
using mlcore::MlpActivation;
using mlcore::MlpWeights;
using mlcore::View;

constexpr MlpActivation kActivations[] = {MlpActivation::linear, MlpActivation::tanh,
                                          MlpActivation::silu, MlpActivation::relu,
                                          MlpActivation::softplus};

/// Weights of any size, the same at every call.
template <class T>
struct Net {
  Net(const std::vector<std::int64_t>& widths, MlpActivation activation, bool bias = true,
      bool scaled = true) {
    memory.reserve(2 * widths.size() + 4);
    for (std::size_t l = 1; l < widths.size(); ++l) {
      const double size = 1.5 / std::sqrt(static_cast<double>(widths[l - 1]));
      weights.layers.push_back({{next(widths[l] * widths[l - 1], size), {widths[l], widths[l - 1]}},
                                {next(bias ? widths[l] : 0), {bias ? widths[l] : 0}}});
    }
    weights.activation = activation;
    if (!scaled) return;
    weights.in_shift = {next(widths.front()), {widths.front()}};
    weights.in_scale = {next(widths.front(), 0.3, 1), {widths.front()}};
    weights.out_shift = {next(widths.back()), {widths.back()}};
    weights.out_scale = {next(widths.back(), 0.3, 1), {widths.back()}};
  }

  T* next(std::int64_t count, double size = 0.5, double middle = 0) {
    std::vector<T> values(count);
    for (T& v : values) v = T(middle + size * std::sin(1.7 * ++counter + 0.3 * (counter % 5)));
    memory.push_back(values);
    return memory.back().data();
  }

  int counter = 0;
  std::vector<std::vector<T>> memory;
  MlpWeights<T> weights;
};

template <class T>
std::vector<T> numbers(std::int64_t count, double phase = 0) {
  std::vector<T> x(count);
  for (std::int64_t k = 0; k < count; ++k) x[k] = T(2 * std::cos(2.3 * k + phase));
  return x;
}

template <class T>
void expect_near(const std::vector<T>& got, const std::vector<T>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t k = 0; k < got.size(); ++k) ASSERT_NEAR(got[k], want[k], tolerance) << k;
}

const std::vector<std::int64_t> kNets[] = {
    {7, 64, 64, 1}, {1, 1}, {3, 17, 5}, {40, 33, 8, 9, 16}, {2, 100, 3}};

template <class T>
void matches_reference(double tolerance) {
  for (const auto& widths : kNets) {
    for (MlpActivation activation : kActivations) {
      for (std::int64_t B : {0, 1, 5, 6, 13, 64}) {
        Net<T> net(widths, activation, B != 5, B != 6);
        const Mlp<T> mlp(net.weights);
        const std::int64_t D = widths.front(), O = widths.back();
        ASSERT_EQ(mlp.inputs(), D);
        ASSERT_EQ(mlp.outputs(), O);
        const auto x = numbers<T>(B * D), v = numbers<T>(B * O, 1);
        std::vector<T> y(B * O), dx(B * D), want_y(B * O), want_dx(B * D), alone(B * O);
        const View<const T, 2> in{x.data(), {B, D}};
        for (bool ones : {false, true}) {
          const View<const T, 2> along =
              ones ? View<const T, 2>{} : View<const T, 2>{v.data(), {B, O}};
          mlcore::reference::mlp<T>(net.weights, in, along, {want_y.data(), {B, O}},
                                    {want_dx.data(), {B, D}});
          mlp.gradient({1}, in, along, {dx.data(), {B, D}}, {y.data(), {B, O}});
          expect_near(y, want_y, tolerance);
          expect_near(dx, want_dx, tolerance * 4);
        }
        mlp.forward({1}, in, {alone.data(), {B, O}});
        EXPECT_EQ(alone, y);
      }
    }
  }
}

TEST(Mlp, MatchesReference) {
  matches_reference<float>(1e-5);
  matches_reference<double>(1e-13);
}

template <class T>
void rows_and_threads_change_nothing() {
  const std::int64_t B = 1001, D = 5, O = 2;
  Net<T> net({D, 70, 31, O}, MlpActivation::silu);
  const Mlp<T> mlp(net.weights);
  const auto x = numbers<T>(B * D);
  std::vector<T> y(B * O), dx(B * D), again(B * O), dagain(B * D);
  mlp.gradient({1}, {x.data(), {B, D}}, {}, {dx.data(), {B, D}}, {y.data(), {B, O}});
  for (int threads : {2, 7}) {
    mlp.gradient({threads}, {x.data(), {B, D}}, {}, {dagain.data(), {B, D}},
                 {again.data(), {B, O}});
    EXPECT_EQ(again, y);
    EXPECT_EQ(dagain, dx);
  }
  for (std::int64_t b : {0, 1, 500, 1000}) {
    mlp.gradient({1}, {&x[b * D], {1, D}}, {}, {dagain.data(), {1, D}}, {again.data(), {1, O}});
    EXPECT_TRUE(std::equal(&y[b * O], &y[b * O] + O, again.begin())) << b;
    EXPECT_TRUE(std::equal(&dx[b * D], &dx[b * D] + D, dagain.begin())) << b;
  }
}

TEST(Mlp, RowsAndThreadsChangeNothing) {
  rows_and_threads_change_nothing<float>();
  rows_and_threads_change_nothing<double>();
}

template <class T>
void large_numbers_stay_finite() {
  for (MlpActivation activation : kActivations) {
    Net<T> net({1, 3, 1}, activation, true, false);
    const Mlp<T> mlp(net.weights);
    std::vector<T> x{T(1e30), T(-1e30), T(300), T(-300)}, y(4), dx(4);
    mlp.gradient({}, {x.data(), {4, 1}}, {}, {dx.data(), {4, 1}}, {y.data(), {4, 1}});
    for (T value : y) EXPECT_TRUE(std::isfinite(value));
    for (T value : dx) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(Mlp, LargeNumbersStayFinite) {
  large_numbers_stay_finite<float>();
  large_numbers_stay_finite<double>();
}

void expect_invalid(const std::string& what, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "no error: " << what;
  } catch (const mlcore::InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

TEST(Mlp, ErrorsNameTheArgument) {
  using N = Net<double>;
  const auto build = [](const std::function<void(N&)>& change) {
    N net({3, 4, 2}, MlpActivation::tanh);
    change(net);
    const Mlp<double> mlp(net.weights);
  };
  expect_invalid("at least one layer", [&] { build([](N& n) { n.weights.layers.clear(); }); });
  expect_invalid("weight 1 must have the shape (units, 4), got (2, 3)",
                 [&] { build([](N& n) { n.weights.layers[1].weight.shape[1] = 3; }); });
  expect_invalid("bias 0 must have the length 4",
                 [&] { build([](N& n) { n.weights.layers[0].bias.shape[0] = 3; }); });
  expect_invalid("weight 0 must be finite", [&] { build([](N& n) { n.memory[0][2] = NAN; }); });
  expect_invalid("in_shift", [&] { build([](N& n) { n.weights.in_shift.shape[0] = 2; }); });
  expect_invalid("in_scale must not be zero", [&] { build([](N& n) { n.memory[5][1] = 0; }); });
  expect_invalid("overflows", [&] { build([](N& n) { n.memory[5][1] = 1e-310; }); });
  expect_invalid("activation",
                 [&] { build([](N& n) { n.weights.activation = MlpActivation(9); }); });
  N net({3, 4, 2}, MlpActivation::tanh);
  const Mlp<double> mlp(net.weights);
  auto x = numbers<double>(6);
  std::vector<double> y(4), dx(6);
  expect_invalid("x must have the shape (3, 3), got (3, 2)",
                 [&] { mlp.forward({}, {x.data(), {3, 2}}, {y.data(), {3, 2}}); });
  expect_invalid("y must have the shape (2, 2)",
                 [&] { mlp.forward({}, {x.data(), {2, 3}}, {y.data(), {2, 1}}); });
  expect_invalid("v must have the shape (2, 2)", [&] {
    mlp.gradient({}, {x.data(), {2, 3}}, {y.data(), {1, 2}}, {dx.data(), {2, 3}});
  });
  x[4] = INFINITY;
  expect_invalid("x must be finite, but entry 4",
                 [&] { mlp.forward({}, {x.data(), {2, 3}}, {y.data(), {2, 2}}); });
}

}  // namespace
