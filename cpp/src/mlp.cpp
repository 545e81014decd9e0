#include "mlcore/mlp.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/mlp.hpp"
#include "kernels/recurrent.hpp"
#include "mlp_cuda.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kMostUnits = std::int64_t{1} << 20;
constexpr std::int64_t kWorkPerThread = 400'000;  // multiplications worth waking a thread for

template <class T>
auto run_kernel() {
  if constexpr (sizeof(T) == 4) {
    return MLCORE_DISPATCH(mlp_run_f32);
  } else {
    return MLCORE_DISPATCH(mlp_run_f64);
  }
}

template <class T>
bool all_finite(View<const T, 2> x) {
  if constexpr (sizeof(T) == 4) {
    return MLCORE_DISPATCH(lstm_finite_f32)(x.size(), x.data);
  } else {
    return MLCORE_DISPATCH(lstm_finite_f64)(x.size(), x.data);
  }
}

/// Zeros that start at a cache line, so that no vector of the kernels spans two.
template <class T>
class Lines {
 public:
  explicit Lines(std::int64_t count = 0) : memory_(count + kSlack) {}

  std::int64_t size() const { return static_cast<std::int64_t>(memory_.size()) - kSlack; }
  T* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (kLine - address % kLine) % kLine / sizeof(T);
  }
  T& operator[](std::int64_t k) { return data()[k]; }

 private:
  static constexpr std::int64_t kLine = 64, kSlack = kLine / sizeof(T);
  std::vector<T> memory_;
};

template <class T>
void check_vector(const std::string& name, View<const T, 1> vector, std::int64_t length) {
  if (vector.empty()) return;
  MLCORE_CHECK(vector.shape[0] == length, name, " must have the length ", length, ", got ",
               vector.shape[0]);
  check_finite(name.c_str(), vector);
}

template <class T>
void check_matrix(const char* name, View<const T, 2> matrix, std::int64_t rows,
                  std::int64_t columns) {
  MLCORE_CHECK(matrix.shape[0] == rows && matrix.shape[1] == columns, name,
               " must have the shape (", rows, ", ", columns, "), got (", matrix.shape[0], ", ",
               matrix.shape[1], ")");
}

template <class T>
void check_weights(const MlpWeights<T>& weights) {
  MLCORE_CHECK(!weights.layers.empty(), "weights must hold at least one layer");
  const int activation = static_cast<int>(weights.activation);
  MLCORE_CHECK(activation >= 0 && activation <= 4, "activation ", activation, " is not known");
  std::int64_t width = weights.layers.front().weight.shape[1];
  for (std::size_t l = 0; l < weights.layers.size(); ++l) {
    const auto& [weight, bias] = weights.layers[l];
    const std::string name = std::to_string(l);
    MLCORE_CHECK(weight.shape[0] >= 1 && weight.shape[0] <= kMostUnits && width >= 1 &&
                     width <= kMostUnits && weight.shape[1] == width,
                 "weight ", name, " must have the shape (units, ", width, "), got (",
                 weight.shape[0], ", ", weight.shape[1], ")");
    width = weight.shape[0];
    check_finite(("weight " + name).c_str(), weight);
    check_vector("bias " + name, bias, width);
  }
  const std::int64_t inputs = weights.layers.front().weight.shape[1];
  check_vector("in_shift", weights.in_shift, inputs);
  check_vector("in_scale", weights.in_scale, inputs);
  check_vector("out_shift", weights.out_shift, width);
  check_vector("out_scale", weights.out_scale, width);
  for (T scale : weights.in_scale) {
    MLCORE_CHECK(scale != 0, "in_scale must not be zero");
  }
}

/// A layer with the scales of inputs and outputs in it.
template <class T>
struct Folded {
  Folded(const MlpWeights<T>& weights, std::size_t index)
      : units(weights.layers[index].weight.shape[0]),
        width(weights.layers[index].weight.shape[1]),
        weight(units * width),
        bias(units) {
    const auto& layer = weights.layers[index];
    const bool first = index == 0, last = index + 1 == weights.layers.size();
    for (std::int64_t o = 0; o < units; ++o) {
      const double scale = last && !weights.out_scale.empty() ? weights.out_scale(o) : T(1);
      const double shift = last && !weights.out_shift.empty() ? weights.out_shift(o) : T(0);
      bias[o] = static_cast<T>(scale * (layer.bias.empty() ? T(0) : layer.bias(o)) + shift);
      for (std::int64_t k = 0; k < width; ++k) {
        const double unit = first && !weights.in_scale.empty() ? weights.in_scale(k) : T(1);
        weight[o * width + k] = static_cast<T>(scale * layer.weight(o, k) / unit);
      }
    }
    for (T value : weight) check_size(value, index);
    for (T value : bias) check_size(value, index);
  }

  static void check_size(T value, std::size_t index) {
    MLCORE_CHECK(std::isfinite(value), "weight ", index, " overflows with the scales folded in");
  }

  std::int64_t units, width;
  std::vector<T> weight, bias;
};

/// Weights in the order kernels/mlp.inl reads them.
template <class T>
class Packing {
 public:
  Packing(const MlpWeights<T>& weights, int lanes) : lanes_(lanes) {
    widths_.push_back(weights.layers.front().weight.shape[1]);
    for (const auto& layer : weights.layers) widths_.push_back(layer.weight.shape[0]);
    flat_.assign(weights.in_shift.begin(), weights.in_shift.end());
    flat_.resize(widths_.front());
    for (std::size_t l = 0; l < weights.layers.size(); ++l) add(l, Folded<T>(weights, l));
    zeros_ = Lines<T>(padded(*std::max_element(widths_.begin(), widths_.end())));
    shift_ = weights.in_shift.empty() ? Lines<T>() : Lines<T>(widths_.front());
    std::copy(weights.in_shift.begin(), weights.in_shift.end(), shift_.data());
    point(weights);
  }
  Packing(const Packing&) = delete;
  Packing& operator=(const Packing&) = delete;

  const kernels::MlpPacked<T>& net() const { return net_; }
  cuda::MlpModel<T> model() const {
    return {net_.layers, widths_.data(), net_.activation, flat_.data(),
            static_cast<std::int64_t>(flat_.size())};
  }
  std::int64_t inputs() const { return widths_.front(); }
  std::int64_t outputs() const { return widths_.back(); }

  /// Multiplications of a row.
  std::int64_t work() const {
    std::int64_t sum = 0;
    for (std::size_t l = 1; l < widths_.size(); ++l) sum += widths_[l - 1] * widths_[l];
    return sum;
  }

  std::int64_t scratch_size() const {
    std::int64_t widest = 0, hidden = 0;
    for (std::int64_t width : widths_) {
      widest = std::max(widest, padded(width));
      hidden += padded(width);
    }
    return kernels::kMlpRows * (2 * widest + hidden);
  }

 private:
  std::int64_t padded(std::int64_t width) const { return (width + lanes_ - 1) / lanes_ * lanes_; }

  void add(std::size_t index, const Folded<T>& layer) {
    const bool narrow = kernels::mlp_narrow(static_cast<std::int64_t>(index), layer.units, lanes_);
    Lines<T> weight(narrow ? layer.units * padded(layer.width) : padded(layer.units) * layer.width);
    Lines<T> back(padded(layer.width) * layer.units);
    Lines<T> bias(padded(layer.units));
    std::copy(layer.bias.begin(), layer.bias.end(), bias.data());
    for (std::int64_t o = 0; o < layer.units; ++o) {
      for (std::int64_t k = 0; k < layer.width; ++k) {
        const T value = layer.weight[o * layer.width + k];
        weight[narrow ? o * padded(layer.width) + k
                      : (o / lanes_ * layer.width + k) * lanes_ + o % lanes_] = value;
        back[(k / lanes_ * layer.units + o) * lanes_ + k % lanes_] = value;
      }
    }
    for (std::int64_t k = 0; k < layer.width; ++k) {
      for (std::int64_t o = 0; o < layer.units; ++o) {
        flat_.push_back(layer.weight[o * layer.width + k]);
      }
    }
    flat_.insert(flat_.end(), layer.bias.begin(), layer.bias.end());
    arrays_.push_back(std::move(weight));
    arrays_.push_back(std::move(bias));
    arrays_.push_back(std::move(back));
  }

  void point(const MlpWeights<T>& weights) {
    for (std::size_t l = 0; l < weights.layers.size(); ++l) {
      weight_.push_back(arrays_[3 * l].data());
      bias_.push_back(arrays_[3 * l + 1].data());
      back_.push_back(arrays_[3 * l + 2].data());
    }
    net_ = {static_cast<std::int64_t>(weights.layers.size()),
            widths_.data(),
            static_cast<int>(weights.activation),
            weights.in_shift.empty() ? nullptr : shift_.data(),
            weight_.data(),
            bias_.data(),
            back_.data(),
            zeros_.data()};
  }

  int lanes_;
  kernels::MlpPacked<T> net_{};
  std::vector<std::int64_t> widths_;
  std::vector<Lines<T>> arrays_;
  Lines<T> zeros_, shift_;
  std::vector<const T*> weight_, bias_, back_;
  std::vector<T> flat_;  // see cuda::MlpModel
};

}  // namespace

template <class T>
struct Mlp<T>::State {
  explicit State(const MlpWeights<T>& weights)
      : packing(weights, MLCORE_DISPATCH(mlp_lanes)(sizeof(T))) {}

  void check(View<const T, 2> x, std::initializer_list<Device> others) const {
    check_matrix("x", x, x.shape[0], packing.inputs());
    for (Device device : others) {
      MLCORE_CHECK(device == x.device, "all arrays must live on the same device");
    }
    if (x.device == Device::cpu && !all_finite(x)) check_finite("x", x);
  }

  void run(const Context& context, View<const T, 2> x, const kernels::MlpJob<T>& job) const {
    if (x.shape[0] == 0) return;
    if (x.device == Device::cuda) {
      const std::lock_guard lock(mutex);
      return cuda::mlp_run(context, packing.model(), on_device,
                           cuda::MlpCall<T>{x.shape[0], job.x, job.v, job.y, job.dx});
    }
    const auto kernel = run_kernel<T>();
    const auto body = [&](std::int64_t begin, std::int64_t end, int) {
      thread_local Lines<T> memory;
      if (memory.size() < packing.scratch_size()) memory = Lines<T>(packing.scratch_size());
      kernels::MlpJob<T> mine = job;
      mine.scratch = memory.data();
      kernel(packing.net(), mine, begin, end);
    };
    if (x.shape[0] == 1) return body(0, 1, 0);
    const std::int64_t grain = kWorkPerThread / ((job.dx ? 2 : 1) * packing.work() + 1) + 1;
    detail::parallel_for(context, x.shape[0], std::max<std::int64_t>(grain, kernels::kMlpRows),
                         body);
  }

  Packing<T> packing;
  mutable std::mutex mutex;
  mutable std::shared_ptr<cuda::MlpWeightsOnDevice> on_device;
};

template <class T>
Mlp<T>::Mlp(const MlpWeights<T>& weights) {
  check_weights(weights);
  state_ = std::make_unique<State>(weights);
}
template <class T>
Mlp<T>::~Mlp() = default;
template <class T>
Mlp<T>::Mlp(Mlp&&) noexcept = default;
template <class T>
Mlp<T>& Mlp<T>::operator=(Mlp&&) noexcept = default;

template <class T>
std::int64_t Mlp<T>::inputs() const {
  return state_->packing.inputs();
}
template <class T>
std::int64_t Mlp<T>::outputs() const {
  return state_->packing.outputs();
}
template <class T>
std::int64_t Mlp<T>::layers() const {
  return state_->packing.net().layers;
}

template <class T>
void Mlp<T>::forward(const Context& context, View<const T, 2> x, View<T, 2> y) const {
  state_->check(x, {y.device});
  check_matrix<T>("y", y, x.shape[0], outputs());
  state_->run(context, x, {x.data, nullptr, y.data, nullptr, nullptr});
}

template <class T>
void Mlp<T>::gradient(const Context& context, View<const T, 2> x, View<const T, 2> v, View<T, 2> dx,
                      View<T, 2> y) const {
  state_->check(x, {dx.device});
  check_matrix<T>("dx", dx, x.shape[0], inputs());
  if (v.data) {
    MLCORE_CHECK(v.device == x.device, "all arrays must live on the same device");
    check_matrix("v", v, x.shape[0], outputs());
  }
  if (y.data) {
    MLCORE_CHECK(y.device == x.device, "all arrays must live on the same device");
    check_matrix<T>("y", y, x.shape[0], outputs());
  }
  state_->run(context, x, {x.data, v.data, y.data, dx.data, nullptr});
}

template class Mlp<float>;
template class Mlp<double>;

}  // namespace mlcore
