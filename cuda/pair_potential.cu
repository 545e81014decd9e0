// Mirrors cpp/src/pair_potential.cpp: one thread per row.

#include <cstdint>
#include <map>
#include <memory>

#include "device.cuh"
#include "finite.cuh"
#include "pair_potential_cuda.hpp"
#include "sums.cuh"

namespace mlcore::cuda {
namespace {

constexpr double kLeastSquare = 1e-290;
constexpr unsigned long long kNowhere = ~0ull;

/// Arrays as in PairRows; x null: vectors.
struct Rows {
  std::int64_t n, particles, pairs;
  const double* x;
  const double* vectors;
  const std::int32_t* types;
  std::int32_t first_type;
  const std::int64_t* offsets;
  const std::int32_t* columns;
};

Rows rows_of(const PairRows& rows) {
  const bool vectors = rows.vectors.data != nullptr || rows.x.data == nullptr;
  return {rows.offsets.shape[0] - 1, vectors ? rows.types.shape[0] : rows.x.shape[0],
          rows.columns.shape[0],     vectors ? nullptr : rows.x.data,
          rows.vectors.data,         rows.types.data,
          rows.first_type,           rows.offsets.data,
          rows.columns.data};
}

unsigned blocks_of(std::int64_t items) { return static_cast<unsigned>((items + 127) / 128); }

__device__ bool known(const kernels::PairPlan& plan, const Rows& rows, std::int64_t particle) {
  if (!rows.types) return true;
  const std::int64_t type = static_cast<std::int64_t>(rows.types[particle]) - rows.first_type;
  return type >= 0 && type < plan.types;
}

/// Notes the first row whose neighbors are no particles or of unknown types.
__global__ void find_unsound(kernels::PairPlan plan, Rows rows, unsigned long long* first) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i >= rows.n) return;
  const std::int64_t begin = rows.offsets[i], end = rows.offsets[i + 1];
  bool sound = begin >= 0 && begin <= end && end <= rows.pairs && known(plan, rows, i);
  for (std::int64_t e = begin; sound && (rows.x || rows.types) && e < end; ++e) {
    const std::int64_t j = rows.columns[e];
    sound = j >= 0 && j < rows.particles && known(plan, rows, j);
  }
  if (!sound) atomicMin(first, static_cast<unsigned long long>(i));
}

/// A pair's place in the table; nothing beyond the cutoff.
struct Entry {
  double D[3], inverse = 0, t = 0, c[4] = {};
  bool counted = false;

  __device__ Entry(const kernels::PairPlan& plan, const Rows& rows, std::int64_t i,
                   std::int64_t e) {
    const std::int64_t j = rows.columns[e];
    for (int k = 0; k < 3; ++k) {
      D[k] = rows.x ? rows.x[3 * j + k] - rows.x[3 * i + k] : rows.vectors[3 * e + k];
    }
    const double square = D[0] * D[0] + D[1] * D[1] + D[2] * D[2];
    if (!(square < plan.cutoff_square)) return;
    counted = true;
    const double r = sqrt(fmax(square, kLeastSquare));
    inverse = square < kLeastSquare ? 0 : 1 / r;
    const double s = (r - plan.first) * plan.per_knot;
    const double k = fmin(fmax(floor(s), -1.0), static_cast<double>(plan.knots - 2));
    t = s - k;
    std::int64_t start = 0;
    if (plan.types > 1) {
      start = plan.start[(rows.types[i] - rows.first_type) * plan.stride +
                         (rows.types[j] - rows.first_type)];
    }
    const double* row = plan.rows + 4 * (start + static_cast<std::int64_t>(k) + 1);
    for (int m = 0; m < 4; ++m) c[m] = row[m];
  }

  __device__ double slope() const { return c[1] + t * (c[2] + t * c[3]); }
  __device__ double bend(const kernels::PairPlan& plan) const {
    return (c[2] + 2 * t * c[3]) * plan.per_knot;
  }
  __device__ double energy(const kernels::PairPlan& plan) const {
    return c[0] + t * plan.spacing * (c[1] + t * (c[2] / 2 + t * c[3] / 3));
  }
};

__global__ void run_rows(kernels::PairPlan plan, Rows rows, double share, double* forces,
                         double* energies, double* virials) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i >= rows.n) return;
  double force[3] = {}, energy = 0, virial[6] = {};
  for (std::int64_t e = rows.offsets[i]; e < rows.offsets[i + 1]; ++e) {
    const Entry entry(plan, rows, i, e);
    if (!entry.counted) continue;
    const double pull = entry.slope() * entry.inverse;
    const double* D = entry.D;
    energy += entry.energy(plan);
    for (int k = 0; k < 3; ++k) {
      force[k] += pull * D[k];
      virial[k] -= 0.5 * pull * D[k] * D[k];
    }
    virial[3] -= 0.5 * pull * D[0] * D[1];
    virial[4] -= 0.5 * pull * D[0] * D[2];
    virial[5] -= 0.5 * pull * D[1] * D[2];
  }
  for (int k = 0; forces && k < 3; ++k) forces[3 * i + k] += force[k];
  if (energies) energies[i] = share * energy;
  for (int k = 0; virials && k < 6; ++k) virials[6 * i + k] = virial[k];
}

/// See kernels::pair_derivatives.
__global__ void derive_rows(kernels::PairPlan plan, Rows rows, kernels::PairDerivatives out) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i >= rows.n) return;
  const double weight = 0.5 * out.weights[i];
  double by_weight = 0;
  for (std::int64_t e = rows.offsets[i]; e < rows.offsets[i + 1]; ++e) {
    const Entry entry(plan, rows, i, e);
    const double pull = entry.slope() * entry.inverse;
    const double* D = entry.D;
    double to[3] = {};
    if (entry.counted && out.along) {
      const double* along = out.along + 3 * e;
      const double dot = D[0] * along[0] + D[1] * along[1] + D[2] * along[2];
      const double radial = (entry.bend(plan) - pull) * dot * entry.inverse * entry.inverse;
      by_weight += pull * dot;
      for (int k = 0; k < 3; ++k) to[k] = radial * D[k] + pull * along[k];
    } else if (entry.counted) {
      for (int k = 0; k < 3; ++k) to[k] = pull * D[k];
    }
    for (int k = 0; k < 3; ++k) out.by_vectors[3 * e + k] = weight * to[k];
  }
  if (out.along) out.by_weights[i] = 0.5 * by_weight;
}

/// One copy of the table per GPU.
class Copies : public PairTableOnDevice {
 public:
  ~Copies() override {
    for (const auto& [device, plan] : copies_) {
      cudaFree(const_cast<double*>(plan.rows));
      cudaFree(const_cast<std::int64_t*>(plan.start));
    }
  }

  kernels::PairPlan on(int device, const PairModel& model) {
    const auto known = copies_.find(device);
    if (known != copies_.end()) return known->second;
    kernels::PairPlan plan = model.plan;
    plan.rows = copy(model.plan.rows, model.rows);
    plan.start = copy(model.plan.start, model.starts);
    return copies_[device] = plan;
  }

 private:
  template <class T>
  static const T* copy(const T* values, std::int64_t count) {
    T* data = nullptr;
    check(cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T)), "allocate memory");
    check(cudaMemcpy(data, values, count * sizeof(T), cudaMemcpyHostToDevice),
          "copy to the device");
    return data;
  }

  std::map<int, kernels::PairPlan> copies_;
};

kernels::PairPlan plan_on(int device, const PairModel& model,
                          std::shared_ptr<PairTableOnDevice>& cache) {
  if (!cache) cache = std::make_shared<Copies>();
  return static_cast<Copies&>(*cache).on(device, model);
}

void check_rows(const kernels::PairPlan& plan, const Rows& rows, cudaStream_t stream) {
  check_finite_there(rows.x ? "x" : "vectors", rows.x ? rows.x : rows.vectors,
                     3 * (rows.x ? rows.particles : rows.pairs), stream);
  unsigned long long found = kNowhere;
  const Scratch<unsigned long long> first(&kNowhere, 1, stream);
  find_unsound<<<blocks_of(rows.n), 128, 0, stream>>>(plan, rows, first.get());
  check(cudaGetLastError(), "check neighbors");
  check(cudaMemcpyAsync(&found, first.get(), sizeof(found), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "check neighbors");
  MLCORE_CHECK(found == kNowhere, "offsets must grow from 0 to the number of columns, columns be ",
               "numbers of particles and types lie in ", rows.first_type, "..",
               rows.first_type + plan.types - 1, ", but row ", found, " breaks that");
}

}  // namespace

void pair_run(const Context& context, const PairModel& model,
              std::shared_ptr<PairTableOnDevice>& cache, const PairRows& given,
              const PairResults& results) {
  const Rows rows = rows_of(given);
  const CurrentDevice current(device_of("offsets", given.offsets.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const bool with_virial = results.virial.data != nullptr;
  if (rows.n == 0) {
    if (with_virial) {
      check(cudaMemsetAsync(results.virial.data, 0, 6 * sizeof(double), stream),
            "clear the virial");
    }
    return;
  }
  const auto plan = plan_on(device_of("offsets", given.offsets.data), model, cache);
  check_rows(plan, rows, stream);
  const Scratch<double> virials(with_virial ? 6 * rows.n : 0, stream);
  run_rows<<<blocks_of(rows.n), 128, 0, stream>>>(plan, rows, results.share, results.forces.data,
                                                  results.energies.data, virials.get());
  check(cudaGetLastError(), "start the pair kernel");
  if (with_virial) sum_many_rows(virials.get(), rows.n, 6, results.virial.data, stream);
}

void pair_derivatives(const Context& context, const PairModel& model,
                      std::shared_ptr<PairTableOnDevice>& cache, const PairRows& given,
                      const kernels::PairDerivatives& derivatives) {
  const Rows rows = rows_of(given);
  if (rows.n == 0) return;
  const int device = device_of("offsets", given.offsets.data);
  const CurrentDevice current(device);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const auto plan = plan_on(device, model, cache);
  check_rows(plan, rows, stream);
  derive_rows<<<blocks_of(rows.n), 128, 0, stream>>>(plan, rows, derivatives);
  check(cudaGetLastError(), "start the pair kernel");
}

}  // namespace mlcore::cuda
