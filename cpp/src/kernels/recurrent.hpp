#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Rows of a batch that run through the network together, at most.
constexpr int kLstmRows = 6;

/// Weights in the order they are read. A unit block is as many hidden units as a vector has lanes;
/// gate rows are scaled so that a gate is an exponent of 2: by -1/ln 2 for i, f, o, by 2/ln 2 for
/// the cell. Units and outputs that fill up a block have zero weights.
template <class T>
struct LstmPacked {
  std::int64_t inputs, hidden, layers, outputs;
  std::int64_t unit_blocks, output_blocks;
  const T* const* in;    // per layer (unit_blocks, inputs of the layer, 4, lanes)
  const T* const* rec;   // per layer (unit_blocks, hidden, 4, lanes)
  const T* const* bias;  // per layer (unit_blocks, 4, lanes)
  const T* out;          // (output_blocks, hidden, lanes)
  const T* out_bias;     // (output_blocks, lanes)
};

/// Rows begin..end-1 of a batch on their way.
template <class T>
struct LstmJob {
  std::int64_t batch, window;
  std::int64_t steps;  // predictions; more than one: in closed loop
  bool carry;          // predictions after the first take one frame and go on from the state
  bool every;          // output after every frame of the window instead of its last (steps == 1)
  const T* x;          // (batch, window, inputs)
  T* y;                // (batch, steps, outputs), with `every` (batch, window, outputs)
  T* h;                // (layers, batch, hidden) state, or null: zero
  T* c;
  T* scratch;  // lstm_scratch elements
};

MLCORE_DECLARE_PER_ISA(
    // Lanes of a vector of elements of so many bytes.
    int lstm_lanes(int bytes);
    // Whether all values are finite.
    bool lstm_finite_f32(std::int64_t count, const float* values);
    bool lstm_finite_f64(std::int64_t count, const double* values);
    // Runs rows begin..end-1.
    void lstm_run_f32(const LstmPacked<float>& net, const LstmJob<float>& job, std::int64_t begin,
                      std::int64_t end);
    void lstm_run_f64(const LstmPacked<double>& net, const LstmJob<double>& job, std::int64_t begin,
                      std::int64_t end);)

}  // namespace mlcore::kernels
