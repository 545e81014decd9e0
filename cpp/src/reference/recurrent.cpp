#include "mlcore/reference/recurrent.hpp"

#include <cmath>
#include <vector>

namespace mlcore::reference {
namespace {

double sigmoid(double v) { return 1 / (1 + std::exp(-v)); }

template <class T>
double row_times(View<const T, 2> w, std::int64_t row, const std::vector<double>& x) {
  double sum = 0;
  for (std::int64_t k = 0; k < w.shape[1]; ++k) sum += double(w(row, k)) * x[k];
  return sum;
}

}  // namespace

template <class T>
void lstm_frame(const LstmWeights<T>& weights, View<const T, 2> x, const LstmState<T>& state,
                View<T, 2> y) {
  const std::int64_t H = weights.layers.front().w_hh.shape[1];
  for (std::int64_t b = 0; b < x.shape[0]; ++b) {
    std::vector<double> in(x.data + b * x.shape[1], x.data + (b + 1) * x.shape[1]);
    for (std::size_t l = 0; l < weights.layers.size(); ++l) {
      const LstmLayer<T>& layer = weights.layers[l];
      const auto index = static_cast<std::int64_t>(l);
      std::vector<double> h(H), g(4 * H);
      for (std::int64_t k = 0; k < H; ++k) h[k] = state.h(index, b, k);
      for (std::int64_t k = 0; k < 4 * H; ++k) {
        g[k] = row_times(layer.w_ih, k, in) + row_times(layer.w_hh, k, h);
        if (!layer.b_ih.empty()) g[k] += layer.b_ih(k);
        if (!layer.b_hh.empty()) g[k] += layer.b_hh(k);
      }
      for (std::int64_t k = 0; k < H; ++k) {
        const double c = sigmoid(g[H + k]) * double(state.c(index, b, k)) +
                         sigmoid(g[k]) * std::tanh(g[2 * H + k]);
        h[k] = sigmoid(g[3 * H + k]) * std::tanh(c);
        state.c(index, b, k) = static_cast<T>(c);
        state.h(index, b, k) = static_cast<T>(h[k]);
      }
      in = h;
    }
    for (std::int64_t o = 0; o < y.shape[1]; ++o) {
      double value = weights.out_weight.empty() ? in[o] : row_times(weights.out_weight, o, in);
      if (!weights.out_bias.empty()) value += weights.out_bias(o);
      y(b, o) = static_cast<T>(value);
    }
  }
}

template void lstm_frame(const LstmWeights<float>&, View<const float, 2>, const LstmState<float>&,
                         View<float, 2>);
template void lstm_frame(const LstmWeights<double>&, View<const double, 2>,
                         const LstmState<double>&, View<double, 2>);

}  // namespace mlcore::reference
