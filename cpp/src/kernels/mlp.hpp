#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Rows of a batch that run through the network together, at most.
constexpr int kMlpRows = 6;

/// Weights in the order they are read, scales folded in. A block is as many units as a vector has
/// lanes; units that fill one up have zero weights.
template <class T>
struct MlpPacked {
  std::int64_t layers;
  const std::int64_t* widths;  // (layers + 1,): inputs, units of each layer
  int activation;              // MlpActivation
  const T* shift;              // (inputs,) taken from x, or null
  const T* const* weight;      // per layer (blocks of units, width before, lanes), if narrow
                               // (units, width before filled up to whole vectors)
  const T* const* bias;        // per layer (blocks of units, lanes)
  const T* const* back;        // per layer (blocks of the width before, units, lanes)
  const T* zeros;              // lanes for the widest layer
};

/// Layers behind others whose few units are sums over vectors instead of lanes of one.
static inline bool mlp_narrow(std::int64_t layer, std::int64_t units, int lanes) {
  return layer > 0 && 4 * units <= lanes;
}

/// Rows begin..end-1 of a batch on their way.
template <class T>
struct MlpJob {
  const T* x;  // (batch, inputs)
  const T* v;  // (batch, outputs), or null: ones
  T* y;        // (batch, outputs), or null
  T* dx;       // (batch, inputs), or null: no gradient
  T* scratch;  // kMlpRows * mlp_scratch elements
};

MLCORE_DECLARE_PER_ISA(
    // Lanes of a vector of elements of so many bytes.
    int mlp_lanes(int bytes);
    void mlp_run_f32(const MlpPacked<float>& net, const MlpJob<float>& job, std::int64_t begin,
                     std::int64_t end);
    void mlp_run_f64(const MlpPacked<double>& net, const MlpJob<double>& job, std::int64_t begin,
                     std::int64_t end);)

}  // namespace mlcore::kernels
