// Compiled once per instruction set; see simd.hpp.

#include "kernels/stencil.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

#define MLCORE_INLINE inline __attribute__((always_inline))

// Bytes of a vector register, and how many vectors of voxels a tile is wide at most.
#if defined(MLCORE_ISA_IS_avx512)
constexpr int kBytes = 64, kWidest = 4;
#elif defined(MLCORE_ISA_IS_avx2)
constexpr int kBytes = 32, kWidest = 3;
#else
constexpr int kBytes = 16, kWidest = 2;
#endif
constexpr bool kManyRegisters = kBytes == 64;

template <class T>
struct Simd {
  static constexpr int lanes = kBytes / static_cast<int>(sizeof(T));
  typedef T Vector __attribute__((vector_size(kBytes), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vector = typename Simd<T>::Vector;

template <class T>
MLCORE_INLINE Vector<T> load(const T* p) {
  return *reinterpret_cast<const Vector<T>*>(p);
}
/// All lanes alike. (x - 0 is x, whatever x; x + 0 is not, and costs an addition.)
template <class T>
MLCORE_INLINE Vector<T> broadcast(T x) {
  return x - Vector<T>{};
}
template <class T>
MLCORE_INLINE void store(T* p, Vector<T> v) {
  *reinterpret_cast<Vector<T>*>(p) = v;
}

// ------------------------------------------------------------------------------ rows of sums
/// Sums of `Outputs` outputs from `output` on, of `Width` vectors of voxels from z on.
template <class T, int Taps, int Outputs, int Width>
void row_tile(const StencilRow<T>& row, std::int64_t output, std::int64_t z) {
  constexpr int lanes = Simd<T>::lanes, block = static_cast<int>(kStencilBlock);
  constexpr int blocks = (Outputs + block - 1) / block;
  const std::int64_t slot_size = row.channels * Taps * block;
  const std::int64_t block_size = slot_size * row.slot_count;
  const T* block_weights = row.weights + output / block * block_size;
  Vector<T> sum[Outputs][Width];
#pragma GCC unroll 8
  for (int o = 0; o < Outputs; ++o) {
    const Vector<T> start = row.start ? broadcast(row.start[output + o]) : Vector<T>{};
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) sum[o][v] = start;
  }
  for (std::int32_t i = 0; i < row.row_count; ++i) {
    const T* in = row.rows[i] + z;
    const T* weights[blocks];
#pragma GCC unroll 2
    for (int k = 0; k < blocks; ++k) {
      weights[k] = block_weights + k * block_size + row.row_slots[i] * slot_size;
    }
    for (std::int64_t c = 0; c < row.channels; ++c) {
#pragma GCC unroll 5
      for (int tap = 0; tap < Taps; ++tap) {
        Vector<T> value[Width];
#pragma GCC unroll 4
        for (int v = 0; v < Width; ++v) value[v] = load(in + tap * row.tap_pitch + v * lanes);
#pragma GCC unroll 8
        for (int o = 0; o < Outputs; ++o) {
          const Vector<T> w = broadcast(weights[o / block][tap * block + o % block]);
#pragma GCC unroll 4
          for (int v = 0; v < Width; ++v) sum[o][v] += w * value[v];
        }
      }
      in += row.channel_pitch;
#pragma GCC unroll 2
      for (int k = 0; k < blocks; ++k) weights[k] += Taps * block;
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < Outputs; ++o) {
    T* out = row.out + (output + o) * row.out_pitch + z;
#pragma GCC unroll 4
    for (int v = 0; v < Width; ++v) store(out + v * lanes, sum[o][v]);
  }
}

/// All outputs of a column of tiles. Narrow tiles take two blocks of outputs at a time, for enough
/// independent sums.
template <class T, int Taps, int Width>
void row_column(const StencilRow<T>& row, std::int64_t z) {
  std::int64_t o = 0;
  if constexpr (kManyRegisters && Width <= 2) {
    for (; o + 8 <= row.outputs; o += 8) row_tile<T, Taps, 8, Width>(row, o, z);
  }
  for (; o + 4 <= row.outputs; o += 4) row_tile<T, Taps, 4, Width>(row, o, z);
  if (row.outputs - o == 3) row_tile<T, Taps, 3, Width>(row, o, z);
  if (row.outputs - o == 2) row_tile<T, Taps, 2, Width>(row, o, z);
  if (row.outputs - o == 1) row_tile<T, Taps, 1, Width>(row, o, z);
}

template <class T, int Taps>
void row_of_taps(const StencilRow<T>& row) {
  constexpr int lanes = Simd<T>::lanes;
  std::int64_t left = (row.length + lanes - 1) / lanes, z = 0;
  while (left > 0) {
    const std::int64_t tiles = (left + kWidest - 1) / kWidest;
    const std::int64_t width = (left + tiles - 1) / tiles;
    if (width == 1) row_column<T, Taps, 1>(row, z);
    if (width == 2) row_column<T, Taps, 2>(row, z);
    if constexpr (kWidest >= 3) {
      if (width == 3) row_column<T, Taps, 3>(row, z);
    }
    if constexpr (kWidest >= 4) {
      if (width == 4) row_column<T, Taps, 4>(row, z);
    }
    left -= width;
    z += width * lanes;
  }
}

// -------------------------------------------------------------------- gradient of the weights
template <class T, int Taps, int Outputs, int Channels>
void weight_tile(const StencilWeightBlock<T>& b, std::int64_t output, std::int64_t channel) {
  constexpr int lanes = Simd<T>::lanes;
  constexpr std::int64_t vector = kStencilVector / static_cast<std::int64_t>(sizeof(T));
  Vector<T> sum[Outputs][Channels][Taps] = {};
  for (std::int64_t y = 0; y < b.rows; ++y) {
    const T* values = b.values + y * b.values_step + output * b.values_pitch;
    const T* field = b.field + y * b.field_step + channel * b.channel_pitch;
    for (std::int64_t z = 0; z < b.length; z += lanes) {
      Vector<T> value[Outputs];
#pragma GCC unroll 4
      for (int o = 0; o < Outputs; ++o) value[o] = load(values + o * b.values_pitch + z);
#pragma GCC unroll 4
      for (int c = 0; c < Channels; ++c) {
#pragma GCC unroll 5
        for (int tap = 0; tap < Taps; ++tap) {
          const Vector<T> f = load(field + c * b.channel_pitch + tap * b.tap_pitch + z);
#pragma GCC unroll 4
          for (int o = 0; o < Outputs; ++o) sum[o][c][tap] += f * value[o];
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < Outputs; ++o) {
#pragma GCC unroll 4
    for (int c = 0; c < Channels; ++c) {
      T* sums = b.sums + ((output + o) * b.channels + channel + c) * Taps * vector;
#pragma GCC unroll 5
      for (int tap = 0; tap < Taps; ++tap) {
        store(sums + tap * vector, load(sums + tap * vector) + sum[o][c][tap]);
      }
    }
  }
}

template <class T, int Taps, int Outputs, int Channels>
void weight_channels(const StencilWeightBlock<T>& b, std::int64_t output) {
  std::int64_t c = 0;
  for (; c + Channels <= b.channels; c += Channels) {
    weight_tile<T, Taps, Outputs, Channels>(b, output, c);
  }
  for (; c < b.channels; ++c) weight_tile<T, Taps, Outputs, 1>(b, output, c);
}

template <class T, int Taps, int Outputs, int Channels>
void weight_block(const StencilWeightBlock<T>& b) {
  std::int64_t o = 0;
  for (; o + Outputs <= b.outputs; o += Outputs) {
    weight_channels<T, Taps, Outputs, Channels>(b, o);
  }
  for (; o < b.outputs; ++o) weight_channels<T, Taps, 1, Channels>(b, o);
}

// ----------------------------------------------------------------------------------- matrices
template <class T>
struct Four {
  typedef T Vector __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));
};

template <class T>
MLCORE_INLINE void transpose_4x4(const T* in, std::int64_t in_pitch, T* out,
                                 std::int64_t out_pitch) {
  using V = typename Four<T>::Vector;
  const V a = *reinterpret_cast<const V*>(in);
  const V b = *reinterpret_cast<const V*>(in + in_pitch);
  const V c = *reinterpret_cast<const V*>(in + 2 * in_pitch);
  const V d = *reinterpret_cast<const V*>(in + 3 * in_pitch);
  const V ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const V ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const V cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const V cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *reinterpret_cast<V*>(out) = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
  *reinterpret_cast<V*>(out + out_pitch) = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
  *reinterpret_cast<V*>(out + 2 * out_pitch) = __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5);
  *reinterpret_cast<V*>(out + 3 * out_pitch) = __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7);
}

// -------------------------------------------------------------------------------- activations
MLCORE_INLINE double power_of_two(double shifted) {
  const std::int64_t n =
      __builtin_bit_cast(std::int64_t, shifted) - __builtin_bit_cast(std::int64_t, 0x1.8p52);
  return __builtin_bit_cast(double, (n + 1023) << 52);
}
MLCORE_INLINE float power_of_two(float shifted) {
  const std::int32_t n =
      __builtin_bit_cast(std::int32_t, shifted) - __builtin_bit_cast(std::int32_t, 0x1.8p23f);
  return __builtin_bit_cast(float, (n + 127) << 23);
}

/// exp(x) = scale (1 + result), scale = 2^n, the result in [-0.3, 0.42] by Taylor's series; x is
/// limited to where exp(x) is a normal number.
MLCORE_INLINE double exp_parts(double x, double& scale) {
  x = x > 708.0 ? 708.0 : x;
  x = x < -708.0 ? -708.0 : x;
  const double shifted = x * 0x1.71547652b82fep0 + 0x1.8p52;
  const double n = shifted - 0x1.8p52;
  const double r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
  double p = 1.0 / 6227020800.0;
  constexpr double inverse_factorials[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
      1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};
#pragma GCC unroll 11
  for (int i = 0; i < 11; ++i) p = p * r + inverse_factorials[i];
  scale = power_of_two(shifted);
  return p * r * r + r;
}
MLCORE_INLINE float exp_parts(float x, float& scale) {
  x = x > 87.0f ? 87.0f : x;
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 0x1.715476p0f + 0x1.8p23f;
  const float n = shifted - 0x1.8p23f;
  const float r = (x - n * 0x1.62e400p-1f) - n * 0x1.7f7d1cp-20f;
  float p = 1.0f / 40320;
  constexpr float inverse_factorials[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120,
                                          1.0f / 24,   1.0f / 6,   1.0f / 2};
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) p = p * r + inverse_factorials[i];
  scale = power_of_two(shifted);
  return p * r * r + r;
}

template <class T>
MLCORE_INLINE T exp_of(T x) {
  T scale;
  const T part = exp_parts(x, scale);
  return scale * part + scale;
}
template <class T>
MLCORE_INLINE T expm1_of(T x) {
  T scale;
  const T part = exp_parts(x, scale);
  return scale * part + (scale - 1);
}

template <class T>
MLCORE_INLINE T sigmoid_of(T x) {
  return 1 / (2 + expm1_of(-x));
}
template <class T>
MLCORE_INLINE T tanh_of(T x) {
  const T e = expm1_of(-2 * (x < 0 ? -x : x));
  const T size = -e / (2 + e);
  return x < 0 ? -size : size;
}

// log(erfc(z) / t) + z^2 with t = 2 / (2 + z), as a Chebyshev series in 2 t - 1 (the form of Press
// et al., Numerical Recipes, 3rd edition, section 6.2.2; coefficients computed with 50 digits).
constexpr double kErfc[] = {
    -0.6513268598908547171,     0.6419697923564902603,       0.019476473204185836312,
    -0.0095615147868086316419,  -0.0009465953444820368663,   0.00036683949785276145187,
    0.000042523324806907771645, -0.000020278578112534243154, -1.6242900046470255135e-6,
    1.3036558355805232018e-6,   1.5626441722066143178e-8,    -8.5238095914926542525e-8,
    6.5290544390988514964e-9,   5.0593434955514689418e-9,    -9.9136415649303308674e-10,
    -2.2736512229318358557e-10, 9.646791102015526802e-11,    2.3940380830391147447e-12,
    -6.8860275264975533984e-12, 8.9448792730907257167e-13,   3.1309213993429580783e-13,
    -1.1270822361367252366e-13, 3.8109052551892320552e-16,   7.1060976136092369878e-15,
    -1.5230282014571043043e-15, -9.4574945712912340005e-17,  1.2102371892242789923e-16};
template <class T>
constexpr int kErfcTerms = sizeof(T) == 8 ? 27 : 13;

/// x times the normal distribution function of x.
template <class T>
MLCORE_INLINE T gelu_of(T x) {
  const T z = (x < 0 ? -x : x) * T(0.70710678118654752440);
  const T t = 2 / (2 + z);
  const T u = 4 * t - 2;
  T last = 0, sum = 0;
#pragma GCC unroll 27
  for (int i = kErfcTerms<T> - 1; i > 0; --i) {
    const T next = u * sum - last + T(kErfc[i]);
    last = sum;
    sum = next;
  }
  const T series = T(0.5) * u * sum - last + T(kErfc[0]);
  const T tail = T(0.5) * t * exp_of(series - z * z);
  return x * (x < 0 ? tail : 1 - tail);
}

}  // namespace

template <class T>
void stencil_row(const StencilRow<T>& row) {
  if (row.taps == 1) return row_of_taps<T, 1>(row);
  if (row.taps == 3) return row_of_taps<T, 3>(row);
  row_of_taps<T, 5>(row);
}

template <class T>
void stencil_weight_block(const StencilWeightBlock<T>& block) {
  constexpr int wide = kManyRegisters ? 4 : 2;
  if (block.taps == 1) return weight_block<T, 1, 4, kManyRegisters ? 4 : 2>(block);
  if (block.taps == 3) return weight_block<T, 3, wide, 2>(block);
  weight_block<T, 5, wide, 1>(block);
}

template <class T>
void stencil_filter_rows(const T* const* in, std::int64_t count, T* out, std::int64_t pitch) {
  const T *a = in[0], *b = in[1], *c = in[2], *d = in[3];
  T *p = out, *q = out + pitch, *r = out + 2 * pitch, *s = out + 3 * pitch;
#pragma GCC ivdep
  for (std::int64_t i = 0; i < count; ++i) {
    p[i] = a[i] - c[i];
    q[i] = b[i] + c[i];
    r[i] = c[i] - b[i];
    s[i] = b[i] - d[i];
  }
}

template <class T>
void stencil_unfilter_rows(const T* sums, std::int64_t pitch, std::int64_t count, T* out) {
  const T *a = sums, *b = sums + pitch, *c = sums + 2 * pitch, *d = sums + 3 * pitch;
  T* next = out + pitch;
#pragma GCC ivdep
  for (std::int64_t i = 0; i < count; ++i) {
    const T first = a[i] + b[i] + c[i];
    next[i] = b[i] - c[i] - d[i];
    out[i] = first;
  }
}

template <class T>
void stencil_transpose(const T* in, std::int64_t in_pitch, std::int64_t rows, std::int64_t columns,
                       T* out, std::int64_t out_pitch) {
  std::int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    std::int64_t j = 0;
    for (; j + 4 <= columns; j += 4) {
      transpose_4x4(in + i * in_pitch + j, in_pitch, out + j * out_pitch + i, out_pitch);
    }
    for (; j < columns; ++j) {
      for (int k = 0; k < 4; ++k) out[j * out_pitch + i + k] = in[(i + k) * in_pitch + j];
    }
  }
  for (; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) out[j * out_pitch + i] = in[i * in_pitch + j];
  }
}

template <class T>
void stencil_activate(int activation, std::int64_t count, T* values) {
  switch (activation) {
    case 1:
      for (std::int64_t i = 0; i < count; ++i) values[i] = values[i] < 0 ? T(0) : values[i];
      return;
    case 2:
      for (std::int64_t i = 0; i < count; ++i) values[i] *= sigmoid_of(values[i]);
      return;
    case 3:
      for (std::int64_t i = 0; i < count; ++i) values[i] = gelu_of(values[i]);
      return;
    case 4:
      for (std::int64_t i = 0; i < count; ++i) values[i] = tanh_of(values[i]);
      return;
    case 5:
      for (std::int64_t i = 0; i < count; ++i) values[i] = sigmoid_of(values[i]);
      return;
    default:
      return;
  }
}

template <class T>
void stencil_add(std::int64_t count, const T* other, T* values) {
  for (std::int64_t i = 0; i < count; ++i) values[i] += other[i];
}

template <class T>
void stencil_star(const StencilTap<T>* taps, int count, std::int64_t length, T* out) {
  constexpr int lanes = Simd<T>::lanes, width = 4;
  std::int64_t z = 0;
  for (; z + width * lanes <= length; z += width * lanes) {
    Vector<T> sum[width] = {};
    for (int i = 0; i < count; ++i) {
      const Vector<T> w = broadcast(taps[i].weight);
      for (int v = 0; v < width; ++v) sum[v] += w * load(taps[i].values + z + v * lanes);
    }
    for (int v = 0; v < width; ++v) store(out + z + v * lanes, sum[v]);
  }
  for (; z + lanes <= length; z += lanes) {
    Vector<T> sum = {};
    for (int i = 0; i < count; ++i) {
      sum += broadcast(taps[i].weight) * load(taps[i].values + z);
    }
    store(out + z, sum);
  }
  for (; z < length; ++z) {
    T sum = 0;
    for (int i = 0; i < count; ++i) sum += taps[i].weight * taps[i].values[z];
    out[z] = sum;
  }
}

#define MLCORE_INSTANTIATE(T)                                                                \
  template void stencil_row<T>(const StencilRow<T>&);                                        \
  template void stencil_weight_block<T>(const StencilWeightBlock<T>&);                       \
  template void stencil_filter_rows<T>(const T* const*, std::int64_t, T*, std::int64_t);     \
  template void stencil_unfilter_rows<T>(const T*, std::int64_t, std::int64_t, T*);          \
  template void stencil_transpose<T>(const T*, std::int64_t, std::int64_t, std::int64_t, T*, \
                                     std::int64_t);                                          \
  template void stencil_activate<T>(int, std::int64_t, T*);                                  \
  template void stencil_add<T>(std::int64_t, const T*, T*);                                  \
  template void stencil_star<T>(const StencilTap<T>*, int, std::int64_t, T*);

MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)
#undef MLCORE_INSTANTIATE
#undef MLCORE_INLINE

}  // namespace mlcore::kernels::MLCORE_ISA
