#pragma once

// The plan of a mobility (mobility_plan.hpp) on the GPU, and how kernels find distances in it.

#include <cmath>
#include <cstdint>
#include <vector>

#include "device.cuh"
#include "finite.cuh"
#include "kernels/mobility_open.hpp"
#include "mobility_open.cuh"
#include "mobility_plan.hpp"

namespace mlcore::cuda {

using kernels::PairKind;
using kernels::PairTerm;

/// What kernels need of a plan, by value.
struct Parameters {
  PairTerm terms[2];
  int term_count;
  int table_term;
  double rows[9], inverse[9];  // zero along open axes
  double self[6], wave_self[6];
  std::int64_t wave_count;
  const std::int32_t* waves;  // (wave_count, 3)
  const double* weights;      // (wave_count, 6)
};

struct Vec {
  double x, y, z;
};

__device__ inline Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }

__device__ inline Vec load(const double* v, std::int64_t i) {
  return {v[3 * i], v[3 * i + 1], v[3 * i + 2]};
}

__device__ inline double fraction(const Parameters& p, Vec d, int axis) {
  return d.x * p.inverse[axis] + d.y * p.inverse[3 + axis] + d.z * p.inverse[6 + axis];
}

/// Distance wrapped into the cell and the signs of its fractional coordinates.
struct Wrapped {
  Vec d;
  double sign[3];
};

__device__ inline Wrapped wrapped(const Parameters& p, Vec d) {
  Wrapped w{d, {}};
  for (int axis = 0; axis < 3; ++axis) {
    const double f = fraction(p, w.d, axis);
    const double shift = rint(f);
    w.sign[axis] = f >= shift ? 1.0 : -1.0;
    w.d.x -= shift * p.rows[3 * axis];
    w.d.y -= shift * p.rows[3 * axis + 1];
    w.d.z -= shift * p.rows[3 * axis + 2];
  }
  return w;
}

__device__ inline Vec image(const Parameters& p, const Wrapped& w, const double* n) {
  Vec v = w.d;
  for (int axis = 0; axis < 3; ++axis) {
    const double s = n[axis] * w.sign[axis];
    v.x += s * p.rows[3 * axis];
    v.y += s * p.rows[3 * axis + 1];
    v.z += s * p.rows[3 * axis + 2];
  }
  return v;
}

__device__ inline bool singular(const Parameters& p, Vec d) {
  const PairKind kind = p.terms[0].kind;
  if (p.term_count == 0 || (kind != PairKind::oseen && kind != PairKind::periodic_oseen)) {
    return false;
  }
  const Vec v = wrapped(p, d).d;
  return v.x * v.x + v.y * v.y + v.z * v.z < kernels::kCoincide2<double>;
}

/// Positions moved into the cell.
static __global__ void wrap_positions(const Parameters p, const double* x, std::int64_t count,
                                      double* out) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  Vec v = load(x, i);
  for (int axis = 0; axis < 3; ++axis) {
    const double shift = floor(fraction(p, v, axis));
    v.x -= shift * p.rows[3 * axis];
    v.y -= shift * p.rows[3 * axis + 1];
    v.z -= shift * p.rows[3 * axis + 2];
  }
  out[3 * i] = v.x;
  out[3 * i + 1] = v.y;
  out[3 * i + 2] = v.z;
}

/// cos and sin of k.x for wave vector k.
__device__ inline double2 phase(const Parameters& p, Vec x, std::int64_t k) {
  const std::int32_t* n = p.waves + 3 * k;
  const double turns =
      n[0] * fraction(p, x, 0) + n[1] * fraction(p, x, 1) + n[2] * fraction(p, x, 2);
  double2 out;
  sincospi(2.0 * turns, &out.y, &out.x);
  return out;
}

/// phases (wave_count, n) of one configuration.
static __global__ void fill_phases(const Parameters p, const double* x, std::int64_t n,
                                   double2* phases) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i >= n) return;
  for (std::int64_t k = blockIdx.y; k < p.wave_count; k += gridDim.y) {
    phases[k * n + i] = phase(p, load(x, i), k);
  }
}

inline std::vector<std::int32_t> wave_integers(const detail::WavePart& part) {
  std::vector<std::int32_t> n;
  for (const kernels::WaveRow& row : part.rows) {
    for (std::int32_t n1 = row.begin; n1 < row.end; ++n1) {
      n.insert(n.end(), {n1, row.n2, row.n3});
    }
  }
  return n;
}

inline std::vector<double> packed_table(const PairTable& table) {
  std::vector<double> values;
  if (table.cutoff <= 0) return values;
  for (const auto& column : {table.par, table.dpar, table.perp, table.dperp}) {
    values.insert(values.end(), column.begin(), column.end());
  }
  return values;
}

/// GPU copies of host arrays, kept by content from call to call: a model's table, images and waves
/// are the same for a whole trajectory. Each thread keeps those it used last, more than one call
/// takes; never given back.
template <class T>
const T* resident(const std::vector<T>& values, cudaStream_t stream) {
  struct Kept {
    std::vector<T> values;
    int device = -1;
    T* data = nullptr;
    std::uint64_t used = 0;
  };
  static thread_local Kept kept[12];
  static thread_local std::uint64_t calls = 0;
  if (values.empty()) return nullptr;
  int device = 0;
  check(cudaGetDevice(&device), "ask for the current device");
  Kept* slot = kept;
  for (Kept& k : kept) {
    if (k.used < slot->used) slot = &k;
    if (k.device != device || k.values != values) continue;
    k.used = ++calls;
    return k.data;
  }
  if (slot->data) check(cudaFree(slot->data), "free memory");  // waits for all kernels
  *slot = {};
  check(cudaMalloc(reinterpret_cast<void**>(&slot->data), values.size() * sizeof(T)),
        "allocate memory");
  check(cudaMemcpyAsync(slot->data, values.data(), values.size() * sizeof(T),
                        cudaMemcpyHostToDevice, stream),
        "copy to the device");
  check(cudaStreamSynchronize(stream), "copy to the device");
  slot->values = values;
  slot->device = device;
  slot->used = ++calls;
  return slot->data;
}

/// A plan on the GPU.
class DevicePlan {
 public:
  DevicePlan(const MobilityModel& model, const detail::MobilityPlan& plan, cudaStream_t stream) {
    const double* table_data = resident(packed_table(model.table), stream);
    Parameters& p = parameters;
    p.term_count = plan.term_count;
    p.table_term = plan.table_term;
    const double* images = resident(packed_images(plan), stream);
    for (int t = 0; t < plan.term_count; ++t) {
      p.terms[t] = plan.terms[t];
      p.terms[t].images = images;
      images += 3 * plan.terms[t].image_count;
    }
    if (plan.table_term >= 0) {
      kernels::TableParameters& table = p.terms[plan.table_term].table;
      const std::int64_t knots = model.table.par.shape[0];
      table.par = table_data;
      table.dpar = table_data + knots;
      table.perp = table_data + 2 * knots;
      table.dperp = table_data + 3 * knots;
    }
    for (int a = 0; a < 3; ++a) {
      for (int k = 0; k < 3; ++k) {
        p.rows[3 * a + k] = plan.cell.pbc[a] ? plan.cell.rows[3 * a + k] : 0.0;
        p.inverse[3 * k + a] = plan.cell.pbc[a] ? plan.inverse[3 * k + a] : 0.0;
      }
    }
    for (int m = 0; m < 6; ++m) {
      p.self[m] = plan.self[m];
      p.wave_self[m] = plan.ewald ? plan.ewald->wave_self[m] : 0.0;
    }
    p.wave_count = plan.ewald ? static_cast<std::int64_t>(plan.ewald->waves.weights.size() / 6) : 0;
    if (!plan.ewald) return;
    p.waves = resident(wave_integers(plan.ewald->waves), stream);
    p.weights = resident(plan.ewald->waves.weights, stream);
  }

  Parameters parameters{};

 private:
  static std::vector<double> packed_images(const detail::MobilityPlan& plan) {
    std::vector<double> images;
    for (int t = 0; t < plan.term_count; ++t) {
      const PairTerm& term = plan.terms[t];
      images.insert(images.end(), term.images, term.images + 3 * term.image_count);
    }
    return images;
  }
};

inline unsigned blocks(std::int64_t items, std::int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// The one GPU all arrays live on.
template <class Real, class... Views>
int common_device(View<const Real, 3> x, const Views&... others) {
  const int device = device_of("x", x.data);
  for (const int other : {device_of("an array", others.data)...}) {
    MLCORE_CHECK(other == device, "all arrays must live on the same device, but x is on GPU ",
                 device, " and another one on GPU ", other);
  }
  return device;
}

}  // namespace mlcore::cuda
