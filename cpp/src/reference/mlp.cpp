#include "mlcore/reference/mlp.hpp"

#include <cmath>
#include <utility>
#include <vector>

namespace mlcore::reference {
namespace {

/// Value and derivative.
std::pair<double, double> activated(MlpActivation activation, double z) {
  const double sigma = 1 / (1 + std::exp(-z));
  switch (activation) {
    case MlpActivation::tanh:
      return {std::tanh(z), 1 - std::tanh(z) * std::tanh(z)};
    case MlpActivation::silu:
      return {z * sigma, sigma + z * sigma * (1 - sigma)};
    case MlpActivation::relu:
      return {z > 0 ? z : 0, z > 0 ? 1 : 0};
    case MlpActivation::softplus:
      return {std::fmax(z, 0) + std::log1p(std::exp(-std::fabs(z))), sigma};
    case MlpActivation::linear:
      break;
  }
  return {z, 1};
}

template <class T>
double or_else(View<const T, 1> values, std::int64_t k, double otherwise) {
  return values.empty() ? otherwise : double(values(k));
}

}  // namespace

template <class T>
void mlp(const MlpWeights<T>& weights, View<const T, 2> x, View<const T, 2> v, View<T, 2> y,
         View<T, 2> dx) {
  const std::size_t layers = weights.layers.size();
  for (std::int64_t b = 0; b < x.shape[0]; ++b) {
    std::vector<std::vector<double>> slopes(layers);
    std::vector<double> in;
    for (std::int64_t k = 0; k < x.shape[1]; ++k) {
      in.push_back((x(b, k) - or_else(weights.in_shift, k, 0)) / or_else(weights.in_scale, k, 1));
    }
    for (std::size_t l = 0; l < layers; ++l) {
      const auto& [w, bias] = weights.layers[l];
      std::vector<double> out;
      for (std::int64_t o = 0; o < w.shape[0]; ++o) {
        double z = or_else(bias, o, 0);
        for (std::int64_t k = 0; k < w.shape[1]; ++k) z += double(w(o, k)) * in[k];
        const auto [a, slope] =
            activated(l + 1 < layers ? weights.activation : MlpActivation::linear, z);
        out.push_back(a);
        slopes[l].push_back(slope);
      }
      in = out;
    }
    std::vector<double> back;
    for (std::int64_t o = 0; o < y.shape[1]; ++o) {
      const double scale = or_else(weights.out_scale, o, 1);
      y(b, o) = static_cast<T>(scale * in[o] + or_else(weights.out_shift, o, 0));
      back.push_back(scale * (v.data ? double(v(b, o)) : 1.0));
    }
    for (std::size_t l = layers; dx.data && l-- > 0;) {
      const auto& w = weights.layers[l].weight;
      std::vector<double> before(w.shape[1]);
      for (std::int64_t o = 0; o < w.shape[0]; ++o) {
        for (std::int64_t k = 0; k < w.shape[1]; ++k) {
          before[k] += double(w(o, k)) * slopes[l][o] * back[o];
        }
      }
      back = before;
    }
    for (std::int64_t k = 0; dx.data && k < x.shape[1]; ++k) {
      dx(b, k) = static_cast<T>(back[k] / or_else(weights.in_scale, k, 1));
    }
  }
}

template void mlp(const MlpWeights<float>&, View<const float, 2>, View<const float, 2>,
                  View<float, 2>, View<float, 2>);
template void mlp(const MlpWeights<double>&, View<const double, 2>, View<const double, 2>,
                  View<double, 2>, View<double, 2>);

}  // namespace mlcore::reference
