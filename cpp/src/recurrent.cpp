#include "mlcore/recurrent.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <mutex>
#include <utility>

#include "kernels/recurrent.hpp"
#include "parallel.hpp"
#include "recurrent_cuda.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kMostUnits = std::int64_t{1} << 20;
constexpr std::int64_t kWorkPerThread = 400'000;  // multiplications worth waking a thread for

template <class T>
auto run_kernel() {
  if constexpr (sizeof(T) == 4) {
    return MLCORE_DISPATCH(lstm_run_f32);
  } else {
    return MLCORE_DISPATCH(lstm_run_f64);
  }
}

template <class T>
auto finite_kernel() {
  if constexpr (sizeof(T) == 4) {
    return MLCORE_DISPATCH(lstm_finite_f32);
  } else {
    return MLCORE_DISPATCH(lstm_finite_f64);
  }
}

/// Zeros that start at a cache line, so that no vector of the kernels spans two.
template <class T>
class Lines {
 public:
  explicit Lines(std::int64_t count = 0) { resize(count); }

  std::int64_t size() const { return static_cast<std::int64_t>(memory_.size()) - kSlack; }
  void resize(std::int64_t count) { memory_.assign(count + kSlack, T(0)); }
  T* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (kLine - address % kLine) % kLine / sizeof(T);
  }
  T& operator[](std::int64_t k) { return data()[k]; }

 private:
  static constexpr std::int64_t kLine = 64, kSlack = kLine / sizeof(T);
  std::vector<T> memory_;
};

std::int64_t blocks_of(std::int64_t count, int lanes) { return (count + lanes - 1) / lanes; }

template <class T, int Rank>
void check_shape(const std::string& name, View<const T, Rank> view,
                 std::array<std::int64_t, Rank> shape) {
  if (view.shape == shape) return;
  std::ostringstream want, got;
  for (int axis = 0; axis < Rank; ++axis) {
    want << (axis ? ", " : "") << shape[axis];
    got << (axis ? ", " : "") << view.shape[axis];
  }
  detail::raise<InvalidArgument>(name, " must have the shape (", want.str(), Rank == 1 ? ",)" : ")",
                                 ", got (", got.str(), Rank == 1 ? ",)" : ")");
}

template <class T>
void check_layer(const LstmLayer<T>& layer, std::int64_t index, std::int64_t inputs,
                 std::int64_t hidden) {
  const auto named = [&](const char* name) { return name + ("_l" + std::to_string(index)); };
  check_shape<T, 2>(named("weight_ih"), layer.w_ih, {4 * hidden, inputs});
  check_shape<T, 2>(named("weight_hh"), layer.w_hh, {4 * hidden, hidden});
  check_finite(named("weight_ih").c_str(), layer.w_ih);
  check_finite(named("weight_hh").c_str(), layer.w_hh);
  for (const auto& [name, bias] : {std::pair("bias_ih", layer.b_ih), {"bias_hh", layer.b_hh}}) {
    if (bias.empty()) continue;
    check_shape<T, 1>(named(name), bias, {4 * hidden});
    check_finite(named(name).c_str(), bias);
  }
}

template <class T>
void check_weights(const LstmWeights<T>& weights) {
  MLCORE_CHECK(!weights.layers.empty(), "weights must hold at least one layer");
  const auto& first = weights.layers.front();
  const std::int64_t hidden = first.w_hh.shape[1];
  MLCORE_CHECK(hidden >= 1 && hidden <= kMostUnits && first.w_ih.shape[1] >= 1,
               "weight_hh_l0 must have the shape (4H, H) and weight_ih_l0 (4H, D) with H, D >= 1");
  for (std::size_t l = 0; l < weights.layers.size(); ++l) {
    check_layer(weights.layers[l], static_cast<std::int64_t>(l),
                l == 0 ? first.w_ih.shape[1] : hidden, hidden);
  }
  if (!weights.out_weight.empty()) {
    check_shape<T, 2>("the output's weight", weights.out_weight,
                      {weights.out_weight.shape[0], hidden});
    check_finite("the output's weight", weights.out_weight);
  }
  if (!weights.out_bias.empty()) {
    MLCORE_CHECK(!weights.out_weight.empty(), "the output's bias needs the output's weight");
    check_shape<T, 1>("the output's bias", weights.out_bias, {weights.out_weight.shape[0]});
    check_finite("the output's bias", weights.out_bias);
  }
}

/// Weights in the order kernels/recurrent.inl reads them.
template <class T>
class Packing {
 public:
  Packing(const LstmWeights<T>& weights, int lanes) : lanes_(lanes) {
    net_.hidden = weights.layers.front().w_hh.shape[1];
    net_.inputs = weights.layers.front().w_ih.shape[1];
    net_.layers = static_cast<std::int64_t>(weights.layers.size());
    net_.outputs = weights.out_weight.empty() ? net_.hidden : weights.out_weight.shape[0];
    net_.unit_blocks = blocks_of(net_.hidden, lanes);
    net_.output_blocks = blocks_of(net_.outputs, lanes);
    for (const LstmLayer<T>& layer : weights.layers) {
      arrays_.push_back(pack_gates(layer.w_ih));
      arrays_.push_back(pack_gates(layer.w_hh));
      arrays_.push_back(pack_biases(layer));
    }
    arrays_.push_back(pack_output(weights.out_weight));
    arrays_.emplace_back(net_.output_blocks * lanes);
    std::copy(weights.out_bias.begin(), weights.out_bias.end(), arrays_.back().data());
    point();
  }
  Packing(const Packing&) = delete;
  Packing& operator=(const Packing&) = delete;

  const kernels::LstmPacked<T>& net() const { return net_; }

 private:
  /// Gates are exponents of 2: of exp(-x) for the sigmoids, of exp(2x) for tanh.
  static double scale(int gate) { return (gate == 2 ? 2 : -1) / std::log(2.0); }

  Lines<T> pack_gates(View<const T, 2> w) const {
    const std::int64_t width = w.shape[1];
    Lines<T> packed(net_.unit_blocks * width * 4 * lanes_);
    for (std::int64_t unit = 0; unit < net_.hidden; ++unit) {
      for (int gate = 0; gate < 4; ++gate) {
        for (std::int64_t k = 0; k < width; ++k) {
          packed[(((unit / lanes_) * width + k) * 4 + gate) * lanes_ + unit % lanes_] =
              static_cast<T>(scale(gate) * w(gate * net_.hidden + unit, k));
        }
      }
    }
    return packed;
  }

  Lines<T> pack_biases(const LstmLayer<T>& layer) const {
    Lines<T> packed(net_.unit_blocks * 4 * lanes_);
    for (std::int64_t unit = 0; unit < net_.hidden; ++unit) {
      for (int gate = 0; gate < 4; ++gate) {
        double sum = 0;
        for (const auto& bias : {layer.b_ih, layer.b_hh}) {
          if (!bias.empty()) sum += bias(gate * net_.hidden + unit);
        }
        packed[((unit / lanes_) * 4 + gate) * lanes_ + unit % lanes_] =
            static_cast<T>(scale(gate) * sum);
      }
    }
    return packed;
  }

  Lines<T> pack_output(View<const T, 2> w) const {
    Lines<T> packed(net_.output_blocks * net_.hidden * lanes_);
    for (std::int64_t o = 0; o < net_.outputs; ++o) {
      for (std::int64_t k = 0; k < net_.hidden; ++k) {
        packed[((o / lanes_) * net_.hidden + k) * lanes_ + o % lanes_] =
            w.empty() ? T(o == k) : w(o, k);
      }
    }
    return packed;
  }

  void point() {
    for (std::int64_t l = 0; l < net_.layers; ++l) {
      in_.push_back(arrays_[3 * l].data());
      rec_.push_back(arrays_[3 * l + 1].data());
      bias_.push_back(arrays_[3 * l + 2].data());
    }
    net_.in = in_.data();
    net_.rec = rec_.data();
    net_.bias = bias_.data();
    net_.out = arrays_[3 * net_.layers].data();
    net_.out_bias = arrays_[3 * net_.layers + 1].data();
  }

  int lanes_;
  kernels::LstmPacked<T> net_{};
  std::vector<Lines<T>> arrays_;
  std::vector<const T*> in_, rec_, bias_;
};

/// Weights transposed for the GPU, see cuda::LstmModel.
template <class T>
std::vector<T> device_weights(const LstmWeights<T>& weights, std::int64_t outputs) {
  std::vector<T> flat;
  const std::int64_t hidden = weights.layers.front().w_hh.shape[1];
  const auto transpose = [&](View<const T, 2> w) {
    for (std::int64_t k = 0; k < w.shape[1]; ++k) {
      for (std::int64_t row = 0; row < w.shape[0]; ++row) flat.push_back(w(row, k));
    }
  };
  for (const LstmLayer<T>& layer : weights.layers) {
    transpose(layer.w_ih);
    transpose(layer.w_hh);
    for (std::int64_t row = 0; row < 4 * hidden; ++row) {
      flat.push_back((layer.b_ih.empty() ? T(0) : layer.b_ih(row)) +
                     (layer.b_hh.empty() ? T(0) : layer.b_hh(row)));
    }
  }
  for (std::int64_t k = 0; k < hidden; ++k) {
    for (std::int64_t o = 0; o < outputs; ++o) {
      flat.push_back(weights.out_weight.empty() ? T(o == k) : weights.out_weight(o, k));
    }
  }
  for (std::int64_t o = 0; o < outputs; ++o) {
    flat.push_back(weights.out_bias.empty() ? T(0) : weights.out_bias(o));
  }
  return flat;
}

}  // namespace

template <class T>
struct Lstm<T>::State {
  explicit State(const LstmWeights<T>& weights)
      : packing(weights, MLCORE_DISPATCH(lstm_lanes)(sizeof(T))),
        flat(device_weights(weights, packing.net().outputs)) {}

  const kernels::LstmPacked<T>& net() const { return packing.net(); }

  std::int64_t scratch_size(std::int64_t window) const {
    const int lanes = MLCORE_DISPATCH(lstm_lanes)(sizeof(T));
    const std::int64_t units = net().unit_blocks * lanes;
    return kernels::kLstmRows *
           ((9 * window + 2 * net().layers) * units + net().output_blocks * lanes);
  }

  std::int64_t work(std::int64_t window, std::int64_t steps) const {
    const std::int64_t H = net().hidden;
    return std::max<std::int64_t>(1, 4 * H * (net().inputs + (2 * net().layers - 1) * H) * window *
                                         std::max<std::int64_t>(1, steps));
  }

  void run(const Context& context, const kernels::LstmJob<T>& job) const {
    const auto kernel = run_kernel<T>();
    const auto body = [&](std::int64_t begin, std::int64_t end, int) {
      thread_local Lines<T> memory;
      const std::int64_t size = scratch_size(job.window);
      if (memory.size() < size) memory.resize(size);
      kernels::LstmJob<T> mine = job;
      mine.scratch = memory.data();
      kernel(net(), mine, begin, end);
    };
    if (job.batch == 1) return body(0, 1, 0);
    const std::int64_t grain = kWorkPerThread / work(job.window, job.steps) + 1;
    detail::parallel_for(context, job.batch, std::max<std::int64_t>(grain, kernels::kLstmRows),
                         body);
  }

  /// Where the views lie; the values, where they can be seen.
  void check(View<const T, 3> x, std::initializer_list<Device> others) const {
    check_shape<T, 3>("x", x, {x.shape[0], x.shape[1], net().inputs});
    MLCORE_CHECK(x.shape[1] >= 1, "x must hold at least one frame, got the shape (", x.shape[0],
                 ", 0, ", x.shape[2], ")");
    for (Device device : others) {
      MLCORE_CHECK(device == x.device, "all arrays must live on the same device");
    }
    if (x.device == Device::cuda) return;
    if (!finite_kernel<T>()(x.size(), x.data)) check_finite("x", x);
  }

  void run_on(Device device, const Context& context, const kernels::LstmJob<T>& job) const {
    if (job.batch == 0) return;
    if (device == Device::cpu) return run(context, job);
    const cuda::LstmModel<T> model{net().inputs, net().hidden,
                                   net().layers, net().outputs,
                                   flat.data(),  static_cast<std::int64_t>(flat.size())};
    const cuda::LstmCall<T> call{job.batch, job.window, job.steps, job.carry, job.every,
                                 job.x,     job.y,      job.h,     job.c};
    const std::lock_guard lock(mutex);
    cuda::lstm_run(context, model, on_device, call);
  }

  Packing<T> packing;
  std::vector<T> flat;
  mutable std::mutex mutex;
  mutable std::shared_ptr<cuda::LstmWeightsOnDevice> on_device;
};

template <class T>
Lstm<T>::Lstm(const LstmWeights<T>& weights) {
  check_weights(weights);
  state_ = std::make_unique<State>(weights);
}
template <class T>
Lstm<T>::~Lstm() = default;
template <class T>
Lstm<T>::Lstm(Lstm&&) noexcept = default;
template <class T>
Lstm<T>& Lstm<T>::operator=(Lstm&&) noexcept = default;

template <class T>
std::int64_t Lstm<T>::inputs() const {
  return state_->net().inputs;
}
template <class T>
std::int64_t Lstm<T>::hidden() const {
  return state_->net().hidden;
}
template <class T>
std::int64_t Lstm<T>::layers() const {
  return state_->net().layers;
}
template <class T>
std::int64_t Lstm<T>::outputs() const {
  return state_->net().outputs;
}

template <class T>
void Lstm<T>::step(const Context& context, View<const T, 3> x, View<T, 2> y) const {
  state_->check(x, {y.device});
  check_shape<T, 2>("y", y, {x.shape[0], outputs()});
  state_->run_on(
      x.device, context,
      {x.shape[0], x.shape[1], 1, false, false, x.data, y.data, nullptr, nullptr, nullptr});
}

template <class T>
void Lstm<T>::rollout(const Context& context, View<const T, 3> window, View<T, 3> frames,
                      bool carry) const {
  state_->check(window, {frames.device});
  MLCORE_CHECK(outputs() == inputs(),
               "a closed loop needs as many outputs as inputs, but this network has ", inputs(),
               " inputs and ", outputs(), " outputs");
  check_shape<T, 3>("frames", frames, {window.shape[0], frames.shape[1], outputs()});
  if (frames.shape[1] == 0) return;
  state_->run_on(window.device, context,
                 {window.shape[0], window.shape[1], frames.shape[1], carry, false, window.data,
                  frames.data, nullptr, nullptr, nullptr});
}

template <class T>
void Lstm<T>::advance(const Context& context, View<const T, 3> x, const LstmState<T>& state,
                      View<T, 3> y) const {
  state_->check(x, {y.device, state.h.device, state.c.device});
  check_shape<T, 3>("h", state.h, {layers(), x.shape[0], hidden()});
  check_shape<T, 3>("c", state.c, {layers(), x.shape[0], hidden()});
  check_shape<T, 3>("y", y, {x.shape[0], x.shape[1], outputs()});
  if (x.device == Device::cpu) {
    check_finite("h", state.h);
    check_finite("c", state.c);
  }
  state_->run_on(x.device, context,
                 {x.shape[0], x.shape[1], 1, false, true, x.data, y.data, state.h.data,
                  state.c.data, nullptr});
}

template class Lstm<float>;
template class Lstm<double>;

}  // namespace mlcore
