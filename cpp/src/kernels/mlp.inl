// Compiled once per instruction set; see simd.hpp.

#include "kernels/affine.hpp"
#include "kernels/exponential.hpp"
#include "kernels/lanes.hpp"
#include "kernels/mlp.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

static_assert(kMostRows <= kMlpRows);

constexpr double kOneOverLn2 = 1.4426950408889634;
constexpr int kLinear = 0, kTanh = 1, kSilu = 2, kRelu = 3, kSoftplus = 4;

/// log(1 + u) for 0 <= u <= 1: twice the series of atanh(u / (2 + u)).
template <class T>
MLCORE_LANES Vector<T> log1p(Vector<T> u) {
  constexpr int kTerms = sizeof(T) == 4 ? 8 : 17;
  const Vector<T> s = u / (u + T(2)), square = s * s;
  Vector<T> p = all(T(1.0 / (2 * kTerms + 1)));
#pragma GCC unroll 17
  for (int k = kTerms - 1; k >= 0; --k) p = fma(p, square, all(T(1.0 / (2 * k + 1))));
  return (s + s) * p;
}

/// a(z), and da/dz where it is wanted.
template <class T, int A, bool kSlope>
MLCORE_LANES Vector<T> activated(Vector<T> z, Vector<T>& slope) {
  const Vector<T> one = all(T(1));
  if constexpr (A == kTanh) {
    const Vector<T> e = exp2(z * T(2 * kOneOverLn2));
    const Vector<T> y = (e - one) * reciprocal(e + one);
    if constexpr (kSlope) slope = fnma(y, y, one);
    return y;
  } else if constexpr (A == kSilu) {
    const Vector<T> sigma = reciprocal(one + exp2(z * T(-kOneOverLn2)));
    const Vector<T> y = z * sigma;
    if constexpr (kSlope) slope = fma(y, one - sigma, sigma);
    return y;
  } else if constexpr (A == kRelu) {
    if constexpr (kSlope) slope = z > T(0) ? one : Vector<T>{};
    return z > T(0) ? z : Vector<T>{};
  } else if constexpr (A == kSoftplus) {
    const Vector<T> size = z < T(0) ? -z : z, above = z > T(0) ? z : Vector<T>{};
    const Vector<T> e = exp2(size * T(-kOneOverLn2));
    if constexpr (kSlope) {
      const Vector<T> inverse = reciprocal(one + e);
      slope = z > T(0) ? inverse : e * inverse;
    }
    return above + log1p<T>(e);
  } else {
    if constexpr (kSlope) slope = one;
    return z;
  }
}

template <class T, int A, bool kSlope>
void activate_all(std::int64_t count, T* z, T* slopes) {
  for (std::int64_t k = 0; k < count; k += kLanesOf<T>) {
    Vector<T> slope{};
    store(z + k, activated<T, A, kSlope>(load(z + k), slope));
    if constexpr (kSlope) store(slopes + k, slope);
  }
}

/// Activates `count` numbers, whole vectors; slopes null: not wanted.
template <class T, int A>
void activate_some(std::int64_t count, T* z, T* slopes) {
  if (slopes) {
    activate_all<T, A, true>(count, z, slopes);
  } else {
    activate_all<T, A, false>(count, z, slopes);
  }
}

template <class T>
void activate_layer(int activation, std::int64_t count, T* z, T* slopes) {
  switch (activation) {
    case kTanh:
      return activate_some<T, kTanh>(count, z, slopes);
    case kSilu:
      return activate_some<T, kSilu>(count, z, slopes);
    case kRelu:
      return activate_some<T, kRelu>(count, z, slopes);
    case kSoftplus:
      return activate_some<T, kSoftplus>(count, z, slopes);
    default:
      return activate_some<T, kLinear>(count, z, slopes);
  }
}

/// A few rows of a batch and the memory they need.
template <class T>
class Group {
 public:
  Group(const MlpPacked<T>& net, const MlpJob<T>& job, std::int64_t first, int rows)
      : net_(net), job_(job), first_(first), rows_(rows) {
    std::int64_t widest = 0;
    for (std::int64_t l = 0; l <= net.layers; ++l) {
      widest = padded(l) > widest ? padded(l) : widest;
    }
    now_ = job.scratch;
    next_ = now_ + rows * widest;
    slopes_ = next_ + rows * widest;
  }

  void run() {
    forward();
    if (job_.y) copy_rows(now_, padded(net_.layers), job_.y, net_.widths[net_.layers]);
    if (job_.dx) backward();
  }

 private:
  std::int64_t blocks(std::int64_t layer) const {
    return (net_.widths[layer] + kLanesOf<T> - 1) / kLanesOf<T>;
  }
  std::int64_t padded(std::int64_t layer) const { return blocks(layer) * kLanesOf<T>; }

  /// next = bias + weight now, `from` and `to` being layers of units; then they change places.
  void multiply_rows(const T* in, std::int64_t stride, std::int64_t from, std::int64_t to,
                     const T* weight, const T* bias) {
    const T* x[kMostRows];
    T* out[kMostRows];
    for (int r = 0; r < rows_; ++r) {
      x[r] = in + r * stride;
      out[r] = next_ + r * padded(to);
    }
    affine<T, 1>(rows_, x, net_.widths[from], blocks(to), weight, bias, out);
    change_places();
  }

  void change_places() {
    T* const swap = now_;
    now_ = next_;
    next_ = swap;
  }

  /// The same to a narrow layer; units that fill up vectors of `now` meet zero weights.
  void sum_rows(std::int64_t from, std::int64_t to, const T* weight, const T* bias) {
    for (int r = 0; r < rows_; ++r) {
      for (std::int64_t o = 0; o < net_.widths[to]; ++o) {
        const T *x = now_ + r * padded(from), *w = weight + o * padded(from);
        Vector<T> sum{};
        for (std::int64_t k = 0; k < padded(from); k += kLanesOf<T>) {
          sum = fma(load(x + k), load(w + k), sum);
        }
        next_[r * padded(to) + o] = bias[o] + lane_sum(sum);
      }
    }
    change_places();
  }

  const T* inputs() {
    const T* x = job_.x + first_ * net_.widths[0];
    if (!net_.shift) return x;
    for (int r = 0; r < rows_; ++r) {
      for (std::int64_t k = 0; k < net_.widths[0]; ++k) {
        now_[r * net_.widths[0] + k] = x[r * net_.widths[0] + k] - net_.shift[k];
      }
    }
    return now_;
  }

  void forward() {
    const T* in = inputs();
    std::int64_t stride = net_.widths[0];
    T* slopes = slopes_;
    for (std::int64_t l = 0; l < net_.layers; ++l) {
      if (mlp_narrow(l, net_.widths[l + 1], kLanesOf<T>)) {
        sum_rows(l, l + 1, net_.weight[l], net_.bias[l]);
      } else {
        multiply_rows(in, stride, l, l + 1, net_.weight[l], net_.bias[l]);
      }
      in = now_;
      stride = padded(l + 1);
      if (l + 1 == net_.layers) break;
      activate_layer<T>(net_.activation, rows_ * stride, now_, job_.dx ? slopes : nullptr);
      slopes += rows_ * stride;
    }
    end_of_slopes_ = slopes;
  }

  void copy_rows(const T* from, std::int64_t stride, T* to, std::int64_t width) {
    for (int r = 0; r < rows_; ++r) {
      T* row = to + (first_ + r) * width;
      for (std::int64_t k = 0; k < width; ++k) row[k] = from[r * stride + k];
    }
  }

  void backward() {
    const std::int64_t outputs = net_.widths[net_.layers];
    const T* in = job_.v + first_ * outputs;
    if (!job_.v) {
      for (std::int64_t k = 0; k < rows_ * outputs; ++k) now_[k] = 1;
      in = now_;
    }
    std::int64_t stride = outputs;
    const T* slopes = end_of_slopes_;
    for (std::int64_t l = net_.layers - 1; l >= 0; --l) {
      multiply_rows(in, stride, l + 1, l, net_.back[l], net_.zeros);
      in = now_;
      stride = padded(l);
      if (l == 0) break;
      slopes -= rows_ * stride;
      for (std::int64_t k = 0; k < rows_ * stride; k += kLanesOf<T>) {
        store(now_ + k, load(now_ + k) * load(slopes + k));
      }
    }
    copy_rows(now_, padded(0), job_.dx, net_.widths[0]);
  }

  const MlpPacked<T>& net_;
  const MlpJob<T>& job_;
  std::int64_t first_;
  int rows_;
  T *now_, *next_, *slopes_, *end_of_slopes_ = nullptr;
};

template <class T>
void run_rows(const MlpPacked<T>& net, const MlpJob<T>& job, std::int64_t begin, std::int64_t end) {
  const std::int64_t parts = (end - begin + kMostRows - 1) / kMostRows;
  for (std::int64_t p = 0, row = begin; p < parts; ++p) {
    const std::int64_t next = begin + (end - begin) * (p + 1) / parts;
    Group<T>(net, job, row, static_cast<int>(next - row)).run();
    row = next;
  }
}

}  // namespace

int mlp_lanes(int bytes) { return kRegister / bytes; }

void mlp_run_f32(const MlpPacked<float>& net, const MlpJob<float>& job, std::int64_t begin,
                 std::int64_t end) {
  run_rows(net, job, begin, end);
}
void mlp_run_f64(const MlpPacked<double>& net, const MlpJob<double>& job, std::int64_t begin,
                 std::int64_t end) {
  run_rows(net, job, begin, end);
}

}  // namespace mlcore::kernels::MLCORE_ISA
