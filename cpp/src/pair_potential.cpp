#include "mlcore/pair_potential.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <mutex>
#include <vector>

#include "kernels/pair_potential.hpp"
#include "pair_potential_cuda.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kMostTypes = 4096, kMostKnots = std::int64_t{1} << 24;
constexpr std::int64_t kBlock = 64;         // rows whose virial is summed together
constexpr std::int64_t kPlaceGrain = 8192;  // particles worth waking a thread for

void check_table(const PairEnergyTable& table) {
  MLCORE_CHECK(table.types >= 1 && table.types <= kMostTypes, "types must lie in 1..", kMostTypes,
               ", got ", table.types);
  const std::int64_t pairs = table.types * (table.types + 1) / 2, knots = table.energy.shape[1];
  MLCORE_CHECK(table.energy.shape[0] == pairs && knots >= 2 && knots <= kMostKnots,
               "energy must have the shape (", pairs, ", K) for ", table.types,
               " types, with K >= 2 knots, got (", table.energy.shape[0], ", ", knots, ")");
  MLCORE_CHECK(table.slope.shape == table.energy.shape, "slope must have the shape (", pairs, ", ",
               knots, ") of energy, got (", table.slope.shape[0], ", ", table.slope.shape[1], ")");
  MLCORE_CHECK(std::isfinite(table.first) && table.first >= 0,
               "first must be finite and not negative, got ", table.first);
  MLCORE_CHECK(std::isfinite(table.cutoff) && table.cutoff > table.first &&
                   table.cutoff * table.cutoff > 1e-200 && table.cutoff < 1e100,
               "cutoff must be finite and lie beyond first = ", table.first, ", got ",
               table.cutoff);
  MLCORE_CHECK(table.energy.device == Device::cpu && table.slope.device == Device::cpu,
               "energy and slope must lie on the CPU");
  check_finite("energy", table.energy);
  check_finite("slope", table.slope);
}

/// A table in the order kernels/pair_potential.inl reads it.
class Packing {
 public:
  explicit Packing(const PairEnergyTable& table) {
    const std::int64_t pairs = table.energy.shape[0], knots = table.energy.shape[1];
    plan_.types = table.types;
    plan_.stride = std::max<std::int64_t>(table.types, 8);
    plan_.knots = knots;
    plan_.first = table.first;
    plan_.cutoff_square = table.cutoff * table.cutoff;
    plan_.spacing = (table.cutoff - table.first) / static_cast<double>(knots - 1);
    plan_.per_knot = 1 / plan_.spacing;
    rows_.resize(pairs * knots * 4);
    for (std::int64_t p = 0; p < pairs; ++p) pack(table.energy[p], table.slope[p], p);
    starts_.resize(table.types * plan_.stride);
    std::int64_t next = 0;
    for (std::int64_t a = 0; a < table.types; ++a) {
      for (std::int64_t b = a; b < table.types; ++b, next += knots) {
        starts_[a * plan_.stride + b] = starts_[b * plan_.stride + a] = next;
      }
    }
    plan_.rows = rows_.data();
    plan_.start = starts_.data();
  }
  Packing(const Packing&) = delete;
  Packing& operator=(const Packing&) = delete;

  const kernels::PairPlan& plan() const { return plan_; }
  cuda::PairModel model() const {
    return {plan_, static_cast<std::int64_t>(rows_.size()),
            static_cast<std::int64_t>(starts_.size())};
  }

 private:
  /// Below the first knot t counts from a knot before it.
  void pack(View<const double, 1> u, View<const double, 1> m, std::int64_t pair) {
    double* to = rows_.data() + pair * plan_.knots * 4;
    const double h = plan_.spacing;
    const double line[4] = {u(0) - h * m(0), m(0), 0, 0};
    std::copy(line, line + 4, to);
    for (std::int64_t k = 0; k + 1 < plan_.knots; ++k) {
      const double chord = (u(k + 1) - u(k)) / h;
      const double row[4] = {u(k), m(k), 6 * chord - 4 * m(k) - 2 * m(k + 1),
                             3 * (m(k) + m(k + 1)) - 6 * chord};
      std::copy(row, row + 4, to + 4 * (k + 1));
    }
    for (std::int64_t k = 0; k < 4 * plan_.knots; ++k) {
      MLCORE_CHECK(std::isfinite(to[k]), "energy and slope must be smaller: the curve of pair ",
                   pair, " between knots overflows");
    }
  }

  kernels::PairPlan plan_{};
  std::vector<double> rows_;
  std::vector<std::int64_t> starts_;
};

template <class T, int Rank>
void check_shape(const char* name, View<T, Rank> view, std::array<std::int64_t, Rank> shape) {
  for (int axis = 0; axis < Rank; ++axis) {
    MLCORE_CHECK(view.shape[axis] == shape[axis], name, " must have the length ", shape[axis],
                 " along axis ", axis, ", got ", view.shape[axis]);
  }
}

void check_devices(Device device, std::initializer_list<Device> others) {
  for (Device other : others) {
    MLCORE_CHECK(other == device, "all arrays must live on the same device");
  }
}

/// Whether the vectors are read; without pairs they may have no data.
bool by_vectors(const PairRows& rows) {
  return rows.vectors.data != nullptr || rows.x.data == nullptr;
}

void check_rows(const PairRows& rows, std::int64_t kinds) {
  const bool vectors = by_vectors(rows);
  const Device device = rows.offsets.device;
  MLCORE_CHECK(rows.offsets.shape[0] >= 1, "offsets must hold n + 1 numbers, got none");
  const std::int64_t n = rows.offsets.shape[0] - 1, pairs = rows.columns.shape[0];
  check_devices(device, {rows.columns.device});
  if (rows.types.data) check_devices(device, {rows.types.device});
  if (vectors) {
    check_devices(device, {rows.vectors.device});
    check_shape<const double, 2>("vectors", rows.vectors, {pairs, 3});
  } else {
    check_devices(device, {rows.x.device});
    MLCORE_CHECK(rows.x.shape[1] == 3 && rows.x.shape[0] >= n,
                 "x must have the shape (m, 3), m >= ", n, " rows, got (", rows.x.shape[0], ", ",
                 rows.x.shape[1], ")");
    if (rows.types.data) check_shape<const std::int32_t, 1>("types", rows.types, {rows.x.shape[0]});
  }
  MLCORE_CHECK(kinds == 1 || rows.types.data || n == 0, "types are needed for a table of ", kinds,
               " types");
  MLCORE_CHECK(!rows.types.data || rows.types.shape[0] >= n, "types must hold one number for each ",
               "of the ", n, " rows at least, got ", rows.types.shape[0]);
}

/// Says what is wrong with a row the kernels turned down.
[[noreturn]] void raise_row(const PairRows& rows, std::int64_t row, std::int64_t kinds) {
  const std::int64_t begin = rows.offsets(row), end = rows.offsets(row + 1);
  const std::int64_t pairs = rows.columns.shape[0];
  MLCORE_CHECK(begin >= 0 && begin <= end && end <= pairs, "offsets must grow from 0 to at most ",
               pairs, ", the number of columns, but those of row ", row, " are ", begin, " and ",
               end);
  const std::int64_t m = by_vectors(rows) ? rows.types.shape[0] : rows.x.shape[0];
  for (std::int64_t e = begin; e < end; ++e) {
    const std::int64_t j = rows.columns(e);
    MLCORE_CHECK(!rows.types.data || (j >= 0 && j < m), "columns must lie in 0..", m - 1,
                 ", but entry ", e, " is ", j);
    MLCORE_CHECK(rows.vectors.data || (j >= 0 && j < m), "columns must lie in 0..", m - 1,
                 ", but entry ", e, " is ", j);
    for (int k = 0; rows.vectors.data && k < 3; ++k) {
      MLCORE_CHECK(std::isfinite(rows.vectors(e, k)), "vectors must be finite, but row ", e,
                   " holds ", rows.vectors(e, k));
    }
  }
  detail::raise<InvalidArgument>("types must lie in ", rows.first_type, "..",
                                 rows.first_type + kinds - 1, ", but one among row ", row,
                                 " and its neighbors does not");
}

[[noreturn]] void raise_particle(const PairRows& rows, std::int64_t kinds) {
  check_finite("x", rows.x);
  for (std::int64_t k = 0; k < rows.types.shape[0]; ++k) {
    const std::int64_t type = static_cast<std::int64_t>(rows.types(k)) - rows.first_type;
    MLCORE_CHECK(type >= 0 && type < kinds, "types must lie in ", rows.first_type, "..",
                 rows.first_type + kinds - 1, ", but that of particle ", k, " is ", rows.types(k));
  }
  throw Error("x or types changed while they were read");
}

using Places = detail::Scratch<double>;

Places places_of(const Context& context, const PairRows& rows, std::int64_t kinds) {
  const std::int64_t m = rows.x.shape[0];
  Places places(4 * m);
  std::atomic<bool> sound{true};
  const auto kernel = MLCORE_DISPATCH(pair_places);
  detail::parallel_for(context, m, kPlaceGrain, [&](std::int64_t begin, std::int64_t end, int) {
    if (!kernel(rows.x.data, rows.types.data, rows.first_type, kinds, begin, end, places.data())) {
      sound = false;
    }
  });
  if (!sound) raise_particle(rows, kinds);
  return places;
}

kernels::PairJob job_of(const PairRows& rows, const Places& places) {
  kernels::PairJob job{};
  const bool vectors = by_vectors(rows);
  job.places = vectors ? nullptr : places.data();
  job.vectors = rows.vectors.data;
  job.types = rows.types.data;
  job.first_type = rows.first_type;
  job.offsets = rows.offsets.data;
  job.columns = rows.columns.data;
  job.particles = vectors ? rows.types.shape[0] : rows.x.shape[0];
  job.pairs = rows.columns.shape[0];
  return job;
}

/// Calls body(begin, end, block) for blocks of rows; it gives back -1 or the first bad row.
template <class Body>
void over_rows(const Context& context, const PairRows& rows, std::int64_t kinds, const Body& body) {
  const std::int64_t n = rows.offsets.shape[0] - 1, blocks = (n + kBlock - 1) / kBlock;
  std::atomic<std::int64_t> bad{-1};
  detail::parallel_for(context, blocks, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end && bad < 0; ++b) {
      const std::int64_t row = body(b * kBlock, std::min((b + 1) * kBlock, n), b);
      if (row >= 0) bad = row;
    }
  });
  if (bad >= 0) raise_row(rows, bad, kinds);
}

}  // namespace

struct PairPotential::State {
  explicit State(const PairEnergyTable& table)
      : packing(table), first(table.first), cutoff(table.cutoff) {}

  std::int64_t kinds() const { return packing.plan().types; }

  void run(const Context& context, const PairRows& rows, const PairResults& results) const {
    const std::int64_t n = rows.offsets.shape[0] - 1, blocks = (n + kBlock - 1) / kBlock;
    const Places places = by_vectors(rows) ? Places() : places_of(context, rows, kinds());
    kernels::PairJob job = job_of(rows, places);
    job.forces = results.forces.data;
    job.energies = results.energies.data;
    job.share = results.share;
    const bool with_virial = results.virial.data != nullptr;
    std::vector<std::array<double, 6>> virials(with_virial ? blocks : 0);
    const auto kernel = MLCORE_DISPATCH(pair_run);
    over_rows(context, rows, kinds(), [&](std::int64_t begin, std::int64_t end, std::int64_t b) {
      return kernel(packing.plan(), job, begin, end, with_virial ? virials[b].data() : nullptr);
    });
    for (int k = 0; with_virial && k < 6; ++k) {
      double sum = 0;
      for (const auto& virial : virials) sum += virial[k];
      results.virial(k) = sum;
    }
  }

  void derive(const Context& context, const PairRows& rows,
              const kernels::PairDerivatives& derivatives) const {
    MLCORE_CHECK(rows.vectors.data || rows.columns.empty(), "vectors are needed for derivatives");
    if (rows.offsets.device == Device::cuda) {
      const std::lock_guard lock(mutex);
      return cuda::pair_derivatives(context, packing.model(), on_device, rows, derivatives);
    }
    const Places none;
    const kernels::PairJob job = job_of(rows, none);
    const auto kernel = MLCORE_DISPATCH(pair_derivatives);
    over_rows(context, rows, kinds(), [&](std::int64_t begin, std::int64_t end, std::int64_t) {
      return kernel(packing.plan(), job, derivatives, begin, end);
    });
  }

  Packing packing;
  double first, cutoff;
  mutable std::mutex mutex;
  mutable std::shared_ptr<cuda::PairTableOnDevice> on_device;
};

PairPotential::PairPotential(const PairEnergyTable& table) {
  check_table(table);
  state_ = std::make_unique<State>(table);
}
PairPotential::~PairPotential() = default;
PairPotential::PairPotential(PairPotential&&) noexcept = default;
PairPotential& PairPotential::operator=(PairPotential&&) noexcept = default;

std::int64_t PairPotential::types() const { return state_->kinds(); }
std::int64_t PairPotential::knots() const { return state_->packing.plan().knots; }
double PairPotential::first() const { return state_->first; }
double PairPotential::cutoff() const { return state_->cutoff; }

void PairPotential::evaluate(const Context& context, const PairRows& rows,
                             const PairResults& results) const {
  check_rows(rows, types());
  const std::int64_t n = rows.offsets.shape[0] - 1;
  const Device device = rows.offsets.device;
  if (results.forces.data) {
    check_devices(device, {results.forces.device});
    check_shape<double, 2>("forces", results.forces, {n, 3});
  }
  if (results.energies.data) {
    check_devices(device, {results.energies.device});
    check_shape<double, 1>("energies", results.energies, {n});
  }
  if (results.virial.data) {
    check_devices(device, {results.virial.device});
    check_shape<double, 1>("virial", results.virial, {6});
  }
  MLCORE_CHECK(std::isfinite(results.share), "share must be finite, got ", results.share);
  if (device == Device::cpu) return state_->run(context, rows, results);
  const std::lock_guard lock(state_->mutex);
  cuda::pair_run(context, state_->packing.model(), state_->on_device, rows, results);
}

void PairPotential::gradient(const Context& context, const PairRows& rows,
                             View<const double, 1> weights, View<double, 2> out) const {
  check_rows(rows, types());
  check_devices(rows.offsets.device, {weights.device, out.device});
  check_shape<const double, 1>("weights", weights, {rows.offsets.shape[0] - 1});
  check_shape<double, 2>("out", out, {rows.columns.shape[0], 3});
  state_->derive(context, rows, {weights.data, nullptr, out.data, nullptr});
}

void PairPotential::second_gradient(const Context& context, const PairRows& rows,
                                    View<const double, 1> weights, View<const double, 2> along,
                                    View<double, 2> by_vectors, View<double, 1> by_weights) const {
  check_rows(rows, types());
  check_devices(rows.offsets.device,
                {weights.device, along.device, by_vectors.device, by_weights.device});
  const std::int64_t n = rows.offsets.shape[0] - 1, pairs = rows.columns.shape[0];
  check_shape<const double, 1>("weights", weights, {n});
  check_shape<const double, 2>("along", along, {pairs, 3});
  check_shape<double, 2>("by_vectors", by_vectors, {pairs, 3});
  check_shape<double, 1>("by_weights", by_weights, {n});
  if (pairs == 0) {
    if (rows.offsets.device == Device::cpu) std::fill(by_weights.begin(), by_weights.end(), 0.0);
    return;
  }
  state_->derive(context, rows, {weights.data, along.data, by_vectors.data, by_weights.data});
}

}  // namespace mlcore
