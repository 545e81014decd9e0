#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// One layer in torch's layout, gates in the order input, forget, cell, output.
template <class T>
struct LstmLayer {
  View<const T, 2> w_ih;  ///< (4H, D), in deeper layers (4H, H)
  View<const T, 2> w_hh;  ///< (4H, H)
  View<const T, 1> b_ih;  ///< (4H,) or empty
  View<const T, 1> b_hh;  ///< (4H,) or empty
};

/// Layers and a linear output y = out_weight h + out_bias of the last one.
template <class T>
struct LstmWeights {
  std::vector<LstmLayer<T>> layers;
  View<const T, 2> out_weight;  ///< (O, H); empty: y = h
  View<const T, 1> out_bias;    ///< (O,) or empty
};

/// What a recurrent network carries from frame to frame: (L, B, H) each.
template <class T>
struct LstmState {
  View<T, 3> h, c;
};

/// Long short-term memory (Hochreiter and Schmidhuber, Neural Computation 9, 1735 (1997)) in
/// inference, T = float or double: weights are packed once, then every call is one pass.
///
/// c = sigma(f) c + sigma(i) tanh(g), h = sigma(o) tanh(c), with (i, f, g, o) = w_ih x + b_ih +
/// w_hh h + b_hh. Rows of a batch run in parallel and give the bits they give alone. Views on the
/// GPU run there; the weights are copied over on the first call.
template <class T>
class MLCORE_API Lstm {
 public:
  /// @throws InvalidArgument  no layers, shapes that do not fit, weights that are not finite
  explicit Lstm(const LstmWeights<T>& weights);
  ~Lstm();
  Lstm(Lstm&&) noexcept;
  Lstm& operator=(Lstm&&) noexcept;

  std::int64_t inputs() const;   ///< D
  std::int64_t hidden() const;   ///< H
  std::int64_t layers() const;   ///< L
  std::int64_t outputs() const;  ///< O

  /// y (B, O) after windows x (B, S, D) from the zero state.
  /// @throws InvalidArgument  a shape is wrong or x is not finite
  void step(const Context& context, View<const T, 3> x, View<T, 2> y) const;

  /// Closed loop: frames (B, n, D), each the prediction from the S frames before it, from
  /// `window` (B, S, D) on. With `carry` the state goes on after the window instead of starting at
  /// zero in each: every prediction then takes one frame. Needs O = D.
  void rollout(const Context& context, View<const T, 3> window, View<T, 3> frames,
               bool carry = false) const;

  /// y (B, S, O) after every frame of x (B, S, D) from the given state, which is moved on.
  void advance(const Context& context, View<const T, 3> x, const LstmState<T>& state,
               View<T, 3> y) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

extern template class MLCORE_API Lstm<float>;
extern template class MLCORE_API Lstm<double>;

}  // namespace mlcore
