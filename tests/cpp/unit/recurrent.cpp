#include "mlcore/recurrent.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "mlcore/reference/recurrent.hpp"

namespace {

using mlcore::Lstm;
using mlcore::LstmState;
using mlcore::LstmWeights;
using mlcore::View;

/// Weights of any size, the same at every call.
template <class T>
struct Net {
  Net(std::int64_t D, std::int64_t H, std::int64_t L, std::int64_t O, bool bias = true) {
    memory.reserve(4 * L + 2);
    for (std::int64_t l = 0; l < L; ++l) {
      const std::int64_t width = l == 0 ? D : H;
      weights.layers.push_back({{next(4 * H * width), {4 * H, width}},
                                {next(4 * H * H), {4 * H, H}},
                                {next(bias ? 4 * H : 0), {bias ? 4 * H : 0}},
                                {next(bias ? 4 * H : 0), {bias ? 4 * H : 0}}});
    }
    if (O == 0) return;
    weights.out_weight = {next(O * H), {O, H}};
    if (bias) weights.out_bias = {next(O), {O}};
  }

  T* next(std::int64_t count) {
    std::vector<T> values(count);
    for (T& v : values) v = T(0.6 * std::sin(1.7 * ++counter + 0.3 * (counter % 5)));
    memory.push_back(values);
    return memory.back().data();
  }

  int counter = 0;
  std::vector<std::vector<T>> memory;
  LstmWeights<T> weights;
};

template <class T>
std::vector<T> inputs(std::int64_t count) {
  std::vector<T> x(count);
  for (std::int64_t k = 0; k < count; ++k) x[k] = T(std::cos(2.3 * k) + 0.2 * std::sin(0.1 * k));
  return x;
}

/// y (B, S, O) of the reference from the zero state.
template <class T>
std::vector<T> reference(const LstmWeights<T>& weights, const std::vector<T>& x, std::int64_t B,
                         std::int64_t S, std::int64_t O) {
  const std::int64_t D = weights.layers[0].w_ih.shape[1], H = weights.layers[0].w_hh.shape[1];
  const auto L = static_cast<std::int64_t>(weights.layers.size());
  std::vector<T> h(L * B * H), c(L * B * H), y(B * S * O), in(B * D), out(B * O);
  for (std::int64_t s = 0; s < S; ++s) {
    for (std::int64_t b = 0; b < B; ++b) std::copy_n(&x[(b * S + s) * D], D, &in[b * D]);
    mlcore::reference::lstm_frame<T>(weights, {in.data(), {B, D}},
                                     {{h.data(), {L, B, H}}, {c.data(), {L, B, H}}},
                                     {out.data(), {B, O}});
    for (std::int64_t b = 0; b < B; ++b) std::copy_n(&out[b * O], O, &y[(b * S + s) * O]);
  }
  return y;
}

template <class T>
void expect_near(const T* got, const T* want, std::int64_t count, double tolerance) {
  for (std::int64_t k = 0; k < count; ++k) ASSERT_NEAR(got[k], want[k], tolerance) << k;
}

struct Size {
  std::int64_t D, H, L, O, B, S;
};
const Size kSizes[] = {{96, 32, 2, 96, 1, 5}, {96, 32, 2, 96, 13, 5}, {1, 1, 1, 1, 3, 2},
                       {3, 17, 3, 5, 7, 4},   {5, 33, 1, 0, 8, 1},    {7, 8, 2, 7, 5, 9},
                       {2, 15, 2, 3, 64, 3},  {16, 16, 1, 16, 2, 6},  {4, 31, 4, 9, 6, 2}};

template <class T>
void matches_reference(double tolerance) {
  for (const Size& s : kSizes) {
    const std::int64_t O = s.O ? s.O : s.H;
    Net<T> net(s.D, s.H, s.L, s.O, s.B != 7);
    const Lstm<T> lstm(net.weights);
    ASSERT_EQ(lstm.outputs(), O);
    const auto x = inputs<T>(s.B * s.S * s.D);
    const auto want = reference(net.weights, x, s.B, s.S, O);
    std::vector<T> y(s.B * O);
    lstm.step({1}, {x.data(), {s.B, s.S, s.D}}, {y.data(), {s.B, O}});
    for (std::int64_t b = 0; b < s.B; ++b) {
      expect_near(&y[b * O], &want[((b + 1) * s.S - 1) * O], O, tolerance);
    }
  }
}

TEST(Recurrent, MatchesReference) {
  matches_reference<float>(3e-6);
  matches_reference<double>(1e-13);
}

template <class T>
void rows_and_threads_change_nothing() {
  Net<T> net(6, 19, 2, 6);
  const Lstm<T> lstm(net.weights);
  const std::int64_t B = 101, S = 4, n = 7;
  const auto x = inputs<T>(B * S * 6);
  std::vector<T> whole(B * n * 6), again(B * n * 6), one(n * 6);
  for (bool carry : {false, true}) {
    lstm.rollout({1}, {x.data(), {B, S, 6}}, {whole.data(), {B, n, 6}}, carry);
    for (int threads : {2, 7}) {
      lstm.rollout({threads}, {x.data(), {B, S, 6}}, {again.data(), {B, n, 6}}, carry);
      EXPECT_EQ(again, whole);
    }
    for (std::int64_t b : {0, 1, 5, 50, 100}) {
      lstm.rollout({1}, {&x[b * S * 6], {1, S, 6}}, {one.data(), {1, n, 6}}, carry);
      EXPECT_TRUE(std::equal(one.begin(), one.end(), &whole[b * n * 6])) << b;
    }
  }
}

TEST(Recurrent, RowsAndThreadsChangeNothing) {
  rows_and_threads_change_nothing<float>();
  rows_and_threads_change_nothing<double>();
}

TEST(Recurrent, RolloutIsStepOnItsOwnOutput) {
  Net<double> net(5, 12, 2, 5);
  const Lstm<double> lstm(net.weights);
  const std::int64_t S = 3, n = 11;
  auto x = inputs<double>(S * 5);
  std::vector<double> frames(n * 5), y(5);
  lstm.rollout({}, {x.data(), {1, S, 5}}, {frames.data(), {1, n, 5}});
  for (std::int64_t t = 0; t < n; ++t) {
    lstm.step({}, {x.data(), {1, S, 5}}, {y.data(), {1, 5}});
    EXPECT_TRUE(std::equal(y.begin(), y.end(), &frames[t * 5])) << t;
    std::copy(x.begin() + 5, x.end(), x.begin());
    std::copy(y.begin(), y.end(), x.end() - 5);
  }
}

TEST(Recurrent, AdvanceInPiecesIsOneRun) {
  const std::int64_t B = 4, S = 9, D = 3, H = 20, L = 2, O = 3;
  Net<double> net(D, H, L, O);
  const Lstm<double> lstm(net.weights);
  const auto x = inputs<double>(B * S * D);
  const auto want = reference(net.weights, x, B, S, O);
  std::vector<double> h(L * B * H), c(L * B * H), y(B * S * O), piece(B * D), out(B * O);
  const LstmState<double> state{{h.data(), {L, B, H}}, {c.data(), {L, B, H}}};
  lstm.advance({}, {x.data(), {B, S, D}}, state, {y.data(), {B, S, O}});
  expect_near(y.data(), want.data(), B * S * O, 1e-13);
  const auto end = h;
  std::fill(h.begin(), h.end(), 0);
  std::fill(c.begin(), c.end(), 0);
  for (std::int64_t s = 0; s < S; ++s) {
    for (std::int64_t b = 0; b < B; ++b) std::copy_n(&x[(b * S + s) * D], D, &piece[b * D]);
    lstm.advance({}, {piece.data(), {B, 1, D}}, state, {out.data(), {B, 1, O}});
    for (std::int64_t b = 0; b < B; ++b) {
      EXPECT_TRUE(std::equal(&out[b * O], &out[(b + 1) * O], &y[(b * S + s) * O]));
    }
  }
  EXPECT_EQ(h, end);
}

TEST(Recurrent, CarriedRolloutIsAdvance) {
  const std::int64_t S = 4, D = 3, H = 20, L = 2, n = 6;
  Net<float> net(D, H, L, D);
  const Lstm<float> lstm(net.weights);
  const auto x = inputs<float>(S * D);
  std::vector<float> h(L * H), c(L * H), y(S * D), frames(n * D), frame(D), out(D);
  const LstmState<float> state{{h.data(), {L, 1, H}}, {c.data(), {L, 1, H}}};
  lstm.rollout({}, {x.data(), {1, S, D}}, {frames.data(), {1, n, D}}, true);
  lstm.advance({}, {x.data(), {1, S, D}}, state, {y.data(), {1, S, D}});
  std::copy_n(&y[(S - 1) * D], D, frame.begin());
  for (std::int64_t t = 0; t < n; ++t) {
    EXPECT_TRUE(std::equal(frame.begin(), frame.end(), &frames[t * D])) << t;
    lstm.advance({}, {frame.data(), {1, 1, D}}, state, {out.data(), {1, 1, D}});
    frame = out;
  }
}

TEST(Recurrent, LargeGatesSaturate) {
  for (double scale : {1e3, 1e30}) {
    Net<double> net(1, 2, 1, 0);
    for (auto& array : net.memory) {
      for (double& w : array) w *= scale;
    }
    const Lstm<double> lstm(net.weights);
    const std::vector<double> x{1, -1, 2};
    std::vector<double> y(2);
    lstm.step({}, {x.data(), {1, 3, 1}}, {y.data(), {1, 2}});
    for (double v : y) EXPECT_LE(std::fabs(v), 1);
  }
}

void expect_invalid(const std::string& what, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "no error: " << what;
  } catch (const mlcore::InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

TEST(Recurrent, ErrorsNameTheArgument) {
  const auto build = [](auto change) {
    Net<float> net(3, 4, 2, 5);
    change(net);
    const Lstm<float> lstm(net.weights);
  };
  using N = Net<float>;
  expect_invalid("at least one layer", [&] { build([](N& n) { n.weights.layers.clear(); }); });
  expect_invalid("weight_ih_l1 must have the shape (16, 4), got (16, 3)",
                 [&] { build([](N& n) { n.weights.layers[1].w_ih.shape[1] = 3; }); });
  expect_invalid("weight_hh_l0",
                 [&] { build([](N& n) { n.weights.layers[0].w_hh.shape[0] = 12; }); });
  expect_invalid("bias_hh_l0", [&] { build([](N& n) { n.weights.layers[0].b_hh.shape[0] = 3; }); });
  expect_invalid("bias_ih_l1 must be finite", [&] { build([](N& n) { n.memory[6][2] = NAN; }); });
  expect_invalid("output's bias", [&] { build([](N& n) { n.weights.out_bias.shape[0] = 3; }); });
  Net<float> net(3, 4, 2, 5);
  const Lstm<float> lstm(net.weights);
  auto x = inputs<float>(12);
  std::vector<float> y(10);
  const View<float, 2> out{y.data(), {2, 5}};
  expect_invalid("x must have the shape (2, 3, 3), got (2, 3, 2)",
                 [&] { lstm.step({}, {x.data(), {2, 3, 2}}, out); });
  expect_invalid("at least one frame", [&] { lstm.step({}, {x.data(), {2, 0, 3}}, out); });
  expect_invalid("closed loop",
                 [&] { lstm.rollout({}, {x.data(), {2, 2, 3}}, {y.data(), {2, 1, 5}}); });
  x[7] = INFINITY;
  expect_invalid("x must be finite, but entry 7",
                 [&] { lstm.step({}, {x.data(), {2, 2, 3}}, out); });
}

}  // namespace
