// Compiled once per instruction set; see simd.hpp.

#include "kernels/affine.hpp"
#include "kernels/exponential.hpp"
#include "kernels/lanes.hpp"
#include "kernels/recurrent.hpp"

static_assert(mlcore::kernels::MLCORE_ISA::kMostRows <= mlcore::kernels::kLstmRows);

namespace mlcore::kernels::MLCORE_ISA {
namespace {

constexpr double kTwoOverLn2 = 2.8853900817779268;

/// c and h of one block of units from the exponents of their gates.
template <class T>
MLCORE_LANES void activate(const Vector<T> gates[4], Vector<T>& c, Vector<T>& h) {
  const Vector<T> one = all(T(1));
  const Vector<T> i = exp2(gates[0]), f = exp2(gates[1]), g = exp2(gates[2]), o = exp2(gates[3]);
  const Vector<T> kept = c * reciprocal(one + f);
  c = fma(g - one, reciprocal((one + i) * (one + g)), kept);
  const Vector<T> e = exp2(c * T(kTwoOverLn2));
  h = (e - one) * reciprocal((one + o) * (one + e));
}

/// R rows of one layer by one frame, U blocks of units at a time. previous null: zero.
template <class T, int R, int U>
MLCORE_LANES void cell_blocks(const T* const* projected, const T* const* previous,
                              std::int64_t hidden, const T* w, T* const* c, T* const* h,
                              std::int64_t block) {
  constexpr int kLanes = kLanesOf<T>;
  Vector<T> sums[R][4 * U];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < 4 * U; ++v) sums[r][v] = load(projected[r] + (4 * block + v) * kLanes);
  }
  if (previous) {
    multiply<T, R, U, 4>(sums, previous, hidden, w + block * hidden * 4 * kLanes,
                         hidden * 4 * kLanes);
  }
  for (int r = 0; r < R; ++r) {
    for (int u = 0; u < U; ++u) {
      Vector<T> cell = load(c[r] + (block + u) * kLanes), state;
      activate<T>(sums[r] + 4 * u, cell, state);
      store(c[r] + (block + u) * kLanes, cell);
      store(h[r] + (block + u) * kLanes, state);
    }
  }
}

template <class T, int R>
void cell(const T* const* projected, const T* const* previous, std::int64_t hidden,
          std::int64_t blocks, const T* w, T* const* c, T* const* h) {
  constexpr int kTogether = R <= kWideRows ? 2 : 1;
  std::int64_t block = 0;
  for (; block + kTogether <= blocks; block += kTogether) {
    cell_blocks<T, R, kTogether>(projected, previous, hidden, w, c, h, block);
  }
  for (; block < blocks; ++block) {
    cell_blocks<T, R, 1>(projected, previous, hidden, w, c, h, block);
  }
}

template <class T>
void cell_rows(int rows, const T* const* projected, const T* const* previous, std::int64_t hidden,
               std::int64_t blocks, const T* w, T* const* c, T* const* h) {
  switch (rows) {
    case 1:
      return cell<T, 1>(projected, previous, hidden, blocks, w, c, h);
    case 2:
      return cell<T, 2>(projected, previous, hidden, blocks, w, c, h);
    case 3:
      return cell<T, 3>(projected, previous, hidden, blocks, w, c, h);
#if defined(MLCORE_ISA_IS_avx512)
    case 4:
      return cell<T, 4>(projected, previous, hidden, blocks, w, c, h);
    case 5:
      return cell<T, 5>(projected, previous, hidden, blocks, w, c, h);
    default:
      return cell<T, 6>(projected, previous, hidden, blocks, w, c, h);
#endif
  }
}

/// A few rows of a batch and the memory they need.
template <class T>
struct Group {
  const LstmPacked<T>& net;
  const LstmJob<T>& job;
  std::int64_t first;
  int rows;
  std::int64_t units, gates;  // padded hidden, 4 times that
  T* projected;               // (window, rows, gates): the first layer's, a ring in closed loop
  T* deeper;                  // the same for the layer at hand
  T* sequence;                // (window, rows, units): h of the layer at hand
  T* h;                       // (layers, rows, units)
  T* c;
  T* y;  // (rows, padded outputs)

  Group(const LstmPacked<T>& net, const LstmJob<T>& job, std::int64_t first, int rows)
      : net(net), job(job), first(first), rows(rows) {
    units = net.unit_blocks * kLanesOf<T>;
    gates = 4 * units;
    projected = job.scratch;
    deeper = projected + job.window * rows * gates;
    sequence = deeper + job.window * rows * gates;
    h = sequence + job.window * rows * units;
    c = h + net.layers * rows * units;
    y = c + net.layers * rows * units;
  }

  /// Input projections of a layer: any number of rows, equally far apart.
  void project(std::int64_t layer, std::int64_t count, const T* x, std::int64_t stride, T* out) {
    const std::int64_t width = layer == 0 ? net.inputs : net.hidden;
    const std::int64_t parts = (count + kMostRows - 1) / kMostRows;
    for (std::int64_t p = 0, row = 0; p < parts; ++p) {
      const int some = static_cast<int>(count * (p + 1) / parts - row);
      const T* from[kMostRows];
      T* to[kMostRows];
      for (int r = 0; r < some; ++r) {
        from[r] = x + (row + r) * stride;
        to[r] = out + (row + r) * gates;
      }
      affine<T, 4>(some, from, width, net.unit_blocks, net.in[layer], net.bias[layer], to);
      row += some;
    }
  }

  void load_state() {
    const std::int64_t size = net.layers * rows * units;
    for (std::int64_t k = 0; k < size; ++k) h[k] = c[k] = 0;
    if (!job.h) return;
    for (std::int64_t l = 0; l < net.layers; ++l) {
      for (int r = 0; r < rows; ++r) {
        for (std::int64_t k = 0; k < net.hidden; ++k) {
          const std::int64_t at = (l * job.batch + first + r) * net.hidden + k;
          h[(l * rows + r) * units + k] = job.h[at];
          c[(l * rows + r) * units + k] = job.c[at];
        }
      }
    }
  }

  void store_state() {
    for (std::int64_t l = 0; job.h && l < net.layers; ++l) {
      for (int r = 0; r < rows; ++r) {
        for (std::int64_t k = 0; k < net.hidden; ++k) {
          const std::int64_t at = (l * job.batch + first + r) * net.hidden + k;
          job.h[at] = h[(l * rows + r) * units + k];
          job.c[at] = c[(l * rows + r) * units + k];
        }
      }
    }
  }

  /// One layer through `count` frames, whose projections start at slot `start` of a ring.
  void run_layer(std::int64_t layer, std::int64_t count, const T* gate_ring, std::int64_t start,
                 bool from_zero) {
    const T* in[kMostRows];
    const T* previous[kMostRows];
    T *cell[kMostRows], *out[kMostRows];
    T* state = h + layer * rows * units;
    for (int r = 0; r < rows; ++r) {
      cell[r] = c + (layer * rows + r) * units;
      previous[r] = state + r * units;
    }
    for (std::int64_t s = 0; s < count; ++s) {
      std::int64_t slot = start + s;
      if (slot >= job.window) slot -= job.window;
      for (int r = 0; r < rows; ++r) {
        in[r] = gate_ring + (slot * rows + r) * gates;
        out[r] = sequence + (s * rows + r) * units;
      }
      cell_rows<T>(rows, in, s == 0 && from_zero ? nullptr : previous, net.hidden, net.unit_blocks,
                   net.rec[layer], cell, out);
      for (int r = 0; r < rows; ++r) previous[r] = out[r];
    }
    const T* last = sequence + (count - 1) * rows * units;
    for (std::int64_t k = 0; k < rows * units; ++k) state[k] = last[k];
  }

  /// All layers; leaves h of the last one in `sequence`.
  void run_layers(std::int64_t count, std::int64_t start, bool from_zero) {
    run_layer(0, count, projected, start, from_zero);
    for (std::int64_t l = 1; l < net.layers; ++l) {
      project(l, count * rows, sequence, units, deeper);
      run_layer(l, count, deeper, 0, from_zero);
    }
  }

  /// y of frame s of the sequence, written to place `index` of `length` in the caller's array.
  void output(std::int64_t s, std::int64_t index, std::int64_t length) {
    const std::int64_t padded = net.output_blocks * kLanesOf<T>;
    const T* from[kMostRows];
    T* to[kMostRows];
    for (int r = 0; r < rows; ++r) {
      from[r] = sequence + (s * rows + r) * units;
      to[r] = y + r * padded;
    }
    affine<T, 1>(rows, from, net.hidden, net.output_blocks, net.out, net.out_bias, to);
    for (int r = 0; r < rows; ++r) {
      T* target = job.y + ((first + r) * length + index) * net.outputs;
      for (std::int64_t k = 0; k < net.outputs; ++k) target[k] = to[r][k];
    }
  }

  void project_window() {
    for (std::int64_t s = 0; s < job.window && rows > 1; ++s) {
      project(0, rows, job.x + (first * job.window + s) * net.inputs, job.window * net.inputs,
              projected + s * rows * gates);
    }
    if (rows == 1) {
      project(0, job.window, job.x + first * job.window * net.inputs, net.inputs, projected);
    }
  }

  void reset() {
    const std::int64_t size = net.layers * rows * units;
    for (std::int64_t k = 0; k < size; ++k) c[k] = 0;
  }

  void run() {
    load_state();
    project_window();
    run_layers(job.window, 0, job.h == nullptr);
    if (job.every) {
      for (std::int64_t s = 0; s < job.window; ++s) output(s, s, job.window);
    } else {
      output(job.window - 1, 0, job.steps);
    }
    store_state();
    std::int64_t start = 0;
    for (std::int64_t t = 1; t < job.steps; ++t) {
      project(0, rows, y, net.output_blocks * kLanesOf<T>, projected + start * rows * gates);
      if (job.carry) {
        run_layers(1, start, false);
        output(0, t, job.steps);
        continue;
      }
      if (++start == job.window) start = 0;
      reset();
      run_layers(job.window, start, true);
      output(job.window - 1, t, job.steps);
    }
  }
};

template <class T>
void run_rows(const LstmPacked<T>& net, const LstmJob<T>& job, std::int64_t begin,
              std::int64_t end) {
  const std::int64_t parts = (end - begin + kMostRows - 1) / kMostRows;
  for (std::int64_t p = 0, row = begin; p < parts; ++p) {
    const std::int64_t next = begin + (end - begin) * (p + 1) / parts;
    Group<T>(net, job, row, static_cast<int>(next - row)).run();
    row = next;
  }
}

template <class T>
bool finite(std::int64_t count, const T* values) {
  Vector<T> sum{};
  std::int64_t k = 0;
  for (; k + kLanesOf<T> <= count; k += kLanesOf<T>) sum += load(values + k) * T(0);
  T total = 0;
  for (int lane = 0; lane < kLanesOf<T>; ++lane) total += sum[lane];
  for (; k < count; ++k) total += values[k] * T(0);
  return total == 0;
}

}  // namespace

int lstm_lanes(int bytes) { return kRegister / bytes; }

bool lstm_finite_f32(std::int64_t count, const float* values) { return finite(count, values); }
bool lstm_finite_f64(std::int64_t count, const double* values) { return finite(count, values); }

void lstm_run_f32(const LstmPacked<float>& net, const LstmJob<float>& job, std::int64_t begin,
                  std::int64_t end) {
  run_rows(net, job, begin, end);
}
void lstm_run_f64(const LstmPacked<double>& net, const LstmJob<double>& job, std::int64_t begin,
                  std::int64_t end) {
  run_rows(net, job, begin, end);
}

}  // namespace mlcore::kernels::MLCORE_ISA
