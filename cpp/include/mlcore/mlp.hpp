#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// What stands between the layers of a network; softplus: log(1 + exp z), silu: z / (1 + exp -z).
enum class MlpActivation : int { linear = 0, tanh = 1, silu = 2, relu = 3, softplus = 4 };

/// One fully connected layer: w x + b.
template <class T>
struct MlpLayer {
  View<const T, 2> weight;  ///< (out, in)
  View<const T, 1> bias;    ///< (out,) or empty
};

/// y = out_scale * (w_L a(.. w_1 a(w_0 (x - in_shift) / in_scale + b_0) + b_1 ..) + b_L) +
/// out_shift. Shifts and scales are empty (0 and 1) or hold one number per input or output.
template <class T>
struct MlpWeights {
  std::vector<MlpLayer<T>> layers;
  MlpActivation activation = MlpActivation::tanh;  ///< between layers; none after the last
  View<const T, 1> in_shift, in_scale;             ///< (D,)
  View<const T, 1> out_shift, out_scale;           ///< (O,)
};

/// Small fully connected network in inference, T = float or double: weights are packed once, then
/// every call is one pass over the batch.
///
/// Rows of a batch run in parallel and give the bits they give alone. Views on the GPU run there;
/// the weights are copied over on the first call.
template <class T>
class MLCORE_API Mlp {
 public:
  /// @throws InvalidArgument  no layers, shapes that do not fit, numbers that are not finite, a
  ///                          scale of inputs that is zero
  explicit Mlp(const MlpWeights<T>& weights);
  ~Mlp();
  Mlp(Mlp&&) noexcept;
  Mlp& operator=(Mlp&&) noexcept;

  std::int64_t inputs() const;   ///< D
  std::int64_t outputs() const;  ///< O
  std::int64_t layers() const;   ///< products with a matrix

  /// y (B, O) of x (B, D).
  /// @throws InvalidArgument  a shape is wrong or x is not finite
  void forward(const Context& context, View<const T, 2> x, View<T, 2> y) const;

  /// dx (B, D), each row v dy/dx of its row of x: the gradient of sum_o v(b, o) y(b, o). Without v,
  /// of the sum of the outputs. y (B, O) comes along for next to nothing, where it has data.
  void gradient(const Context& context, View<const T, 2> x, View<const T, 2> v, View<T, 2> dx,
                View<T, 2> y = {}) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

extern template class MLCORE_API Mlp<float>;
extern template class MLCORE_API Mlp<double>;

}  // namespace mlcore
