#include "mlcore/potentials.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/potentials.hpp"
#include "parallel.hpp"
#include "potentials_cuda.hpp"
#include "scratch.hpp"

namespace mlcore {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kMostSpecies = 64, kMostKnots = 1 << 24;
constexpr std::int64_t kWorth = 500;  // vectors of pairs worth waking a thread for
constexpr std::int64_t kMostPrepared = std::int64_t{1} << 23;  // numbers prepared at once
constexpr int kColumns[] = {3, 4, 4, 10, 14};

// ------------------------------------------------------------------------------------- checking

void check_model(const PotentialModel& model) {
  const int form = static_cast<int>(model.form);
  MLCORE_CHECK(form >= 0 && form <= static_cast<int>(PotentialForm::eam), "form must lie in 0..5, ",
               "got ", form);
  MLCORE_CHECK(model.species >= 1 && model.species <= kMostSpecies, "species must be 1..",
               kMostSpecies, ", got ", model.species);
  if (model.form != PotentialForm::eam) return;
  for (std::int64_t knots : {model.embedding_knots, model.radial_knots}) {
    MLCORE_CHECK(knots >= 5 && knots <= kMostKnots, "tables must hold 5..", kMostKnots,
                 " knots, got ", knots);
  }
  for (double spacing : {model.density_spacing, model.radial_spacing, model.cutoff}) {
    MLCORE_CHECK(std::isfinite(spacing) && spacing > 0,
                 "spacings and cutoff must be positive and finite, got ", spacing);
  }
  MLCORE_CHECK(std::isfinite(model.largest_density) && model.largest_density >= 0,
               "largest_density must be finite and not negative, got ", model.largest_density);
}

template <class T, int Rank>
void check_shape(const char* name, const View<T, Rank>& view,
                 std::array<std::int64_t, Rank> expected) {
  for (int axis = 0; axis < Rank; ++axis) {
    MLCORE_CHECK(view.shape[axis] == expected[axis], name, " must have the length ", expected[axis],
                 " along axis ", axis, ", got ", view.shape[axis]);
  }
}

/// An extent of one stands for all.
template <class T, int Rank>
void check_repeated(const char* name, const View<T, Rank>& view, int axis, std::int64_t extent) {
  MLCORE_CHECK(view.shape[axis] == 1 || view.shape[axis] == extent, name,
               " must have the length 1 or ", extent, " along axis ", axis, ", got ",
               view.shape[axis]);
}

std::int64_t directions_of(const PotentialCandidates& candidates) {
  return candidates.directions.data ? candidates.directions.shape[2] : 0;
}

void check_shapes(const PotentialModel& model, const PotentialStructures& on,
                  const PotentialCandidates& candidates, const PotentialResults& results) {
  MLCORE_CHECK(on.starts.shape[0] >= 1, "starts must hold M + 1 numbers, got none");
  const std::int64_t M = on.starts.shape[0] - 1, N = on.species.shape[0];
  const std::int64_t C = candidates.parameters.shape[0], P = potential_parameters(model);
  const std::int64_t Q = directions_of(candidates);
  check_shape("offsets", on.offsets, {N + 1});
  check_shape("vectors", on.vectors, {on.columns.shape[0], 3});
  check_shape("volumes", on.volumes, {M});
  check_shape("parameters", candidates.parameters, {C, P});
  if (candidates.directions.data) {
    check_repeated("directions", candidates.directions, 0, C);
    check_shape("directions", candidates.directions, {candidates.directions.shape[0], P, Q});
  }
  if (candidates.deformation.data) {
    const auto& shape = candidates.deformation.shape;
    check_repeated("deformation", candidates.deformation, 0, C);
    check_repeated("deformation", candidates.deformation, 1, M);
    check_shape("deformation", candidates.deformation, {shape[0], shape[1], 3, 3});
  }
  if (candidates.displacements.data) {
    check_shape("displacements", candidates.displacements, {C, N, 3});
  }
  if (results.wanted.data) check_shape("wanted", results.wanted, {M});
  if (results.energies.data) check_shape("energies", results.energies, {C, M});
  if (results.forces.data) check_shape("forces", results.forces, {C, N, 3});
  if (results.stress.data) check_shape("stress", results.stress, {C, M, 6});
  if (results.d_energies.data) check_shape("d_energies", results.d_energies, {C, M, Q});
  if (results.d_forces.data) check_shape("d_forces", results.d_forces, {C, N, 3, Q});
  if (results.d_stress.data) check_shape("d_stress", results.d_stress, {C, M, 6, Q});
  MLCORE_CHECK(std::isfinite(on.cutoff) && on.cutoff > 0,
               "cutoff must be positive and finite, got ", on.cutoff);
}

void check_structures(const PotentialModel& model, const PotentialStructures& on) {
  const std::int64_t M = on.starts.shape[0] - 1, N = on.species.shape[0];
  const std::int64_t pairs = on.columns.shape[0];
  MLCORE_CHECK(on.starts(0) == 0 && on.starts(M) == N, "starts must run from 0 to ", N,
               ", the number of atoms, got ", on.starts(0), " and ", on.starts(M));
  MLCORE_CHECK(on.offsets(0) == 0 && on.offsets(N) == pairs, "offsets must run from 0 to ", pairs,
               ", the number of pairs, got ", on.offsets(0), " and ", on.offsets(N));
  for (std::int64_t s = 0; s < M; ++s) {
    const std::int64_t begin = on.starts(s), end = on.starts(s + 1);
    MLCORE_CHECK(begin <= end && end <= N, "starts must grow, but entry ", s + 1, " is ", end);
    for (std::int64_t i = begin; i < end; ++i) {
      MLCORE_CHECK(on.species(i) >= 0 && on.species(i) < model.species, "species must lie in 0..",
                   model.species - 1, ", but that of atom ", i, " is ", on.species(i));
      const std::int64_t first = on.offsets(i), last = on.offsets(i + 1);
      MLCORE_CHECK(first <= last && last <= pairs, "offsets must grow, but entry ", i + 1, " is ",
                   last);
      for (std::int64_t e = first; e < last; ++e) {
        MLCORE_CHECK(on.columns(e) >= begin && on.columns(e) < end,
                     "columns must be atoms of the same structure, but entry ", e, " is ",
                     on.columns(e));
      }
    }
  }
  check_finite("vectors", on.vectors);
  check_finite("volumes", on.volumes);
}

/// Whether LAMMPS would take a row of parameters, that of a pair or a triplet alone.
bool usable(PotentialForm form, const double* p, bool two_body) {
  const auto none_negative = [p](std::initializer_list<int> which) {
    return std::all_of(which.begin(), which.end(), [p](int k) { return p[k] >= 0; });
  };
  switch (form) {
    case PotentialForm::lj:
      return p[2] > 0;
    case PotentialForm::morse:
      return p[3] > 0;
    case PotentialForm::buckingham:
      return p[1] > 0 && p[3] > 0;
    case PotentialForm::stillinger_weber:
      return none_negative({0, 1, 2, 3, 4, 6, 7, 8, 9});
    case PotentialForm::tersoff:
      return none_negative({1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13}) && (p[6] > 0 || !two_body) &&
             p[11] <= p[10];
    case PotentialForm::eam:
      return true;
  }
  return false;
}

double cutoff_of(const PotentialModel& model, const double* p) {
  switch (model.form) {
    case PotentialForm::lj:
      return p[2];
    case PotentialForm::morse:
    case PotentialForm::buckingham:
      return p[3];
    case PotentialForm::stillinger_weber:
      return p[1] * p[2];
    case PotentialForm::tersoff:
      return p[10] + p[11];
    case PotentialForm::eam:
      return model.cutoff;
  }
  return 0;
}

/// Smallest singular value of a matrix, from below, to rounding.
double least_stretch(const double* F) {
  double c[6] = {};  // of F^T F: xx yy zz yz xz xy
  for (int k = 0; k < 3; ++k) {
    const double* row = F + 3 * k;
    c[0] += row[0] * row[0], c[1] += row[1] * row[1], c[2] += row[2] * row[2];
    c[3] += row[1] * row[2], c[4] += row[0] * row[2], c[5] += row[0] * row[1];
  }
  const double mean = (c[0] + c[1] + c[2]) / 3;
  const double x = c[0] - mean, y = c[1] - mean, z = c[2] - mean;
  const double spread =
      std::sqrt((x * x + y * y + z * z + 2 * (c[3] * c[3] + c[4] * c[4] + c[5] * c[5])) / 6);
  if (spread == 0) return std::sqrt(mean);
  const double third = (x * (y * z - c[3] * c[3]) - c[5] * (c[5] * z - c[3] * c[4]) +
                        c[4] * (c[5] * c[3] - y * c[4])) /
                       (2 * spread * spread * spread);
  const double angle = std::acos(std::clamp(third, -1.0, 1.0)) / 3;
  const double least = mean + 2 * spread * std::cos(angle + 2.0943951023931954923);
  return std::sqrt(std::max(least, 0.0));
}

double determinant_of(const double* F) {
  return F[0] * (F[4] * F[8] - F[5] * F[7]) - F[1] * (F[3] * F[8] - F[5] * F[6]) +
         F[2] * (F[3] * F[7] - F[4] * F[6]);
}

/// F of a candidate on a structure, or null.
const double* deformation_of(const View<const double, 4>& all, std::int64_t c, std::int64_t s) {
  if (!all.data) return nullptr;
  return all.data + 9 * ((all.shape[0] > 1 ? c : 0) * all.shape[1] + (all.shape[1] > 1 ? s : 0));
}

}  // namespace

namespace detail {

std::vector<PotentialVerdict> judge_potentials(const PotentialModel& model,
                                               View<const double, 2> parameters) {
  std::vector<PotentialVerdict> result(parameters.shape[0]);
  if (model.form == PotentialForm::eam) {
    for (PotentialVerdict& candidate : result) candidate.cutoff = model.cutoff;
    return result;
  }
  const int columns = kColumns[static_cast<int>(model.form)];
  for (std::int64_t c = 0; c < parameters.shape[0]; ++c) {
    for (std::int64_t k = 0; k < parameters.shape[1]; k += columns) {
      const double* p = &parameters(c, k);
      MLCORE_CHECK(model.form != PotentialForm::tersoff || p[0] == 1 || p[0] == 3,
                   "parameters: m must be 1 or 3, but in row ", k / columns, " of candidate ", c,
                   " it is ", p[0]);
      result[c].usable = result[c].usable && usable(model.form, p,
                                                    k / columns / model.species % model.species ==
                                                        k / columns % model.species);
      result[c].cutoff = std::max(result[c].cutoff, cutoff_of(model, p));
    }
  }
  return result;
}

void check_potential_reach(const PotentialStructures& on, const PotentialCandidates& candidates,
                           const std::vector<PotentialVerdict>& known) {
  const std::int64_t M = on.starts.shape[0] - 1, N = on.species.shape[0];
  for (std::int64_t c = 0; c < static_cast<std::int64_t>(known.size()); ++c) {
    for (std::int64_t s = 0; s < M; ++s) {
      double reach = known[c].cutoff;
      if (candidates.displacements.data) {
        double longest = 0;
        for (std::int64_t i = on.starts(s); i < on.starts(s + 1); ++i) {
          const double* u = candidates.displacements.data + 3 * (c * N + i);
          longest = std::max(longest, u[0] * u[0] + u[1] * u[1] + u[2] * u[2]);
        }
        reach += 2 * std::sqrt(longest);
      }
      if (const double* F = deformation_of(candidates.deformation, c, s)) {
        reach /= least_stretch(F);
      }
      MLCORE_CHECK(!known[c].usable || reach <= on.cutoff * (1 + 1e-12), "the cutoff ",
                   known[c].cutoff, " of candidate ", c, " on structure ", s,
                   " needs neighbors within ", reach, ", the structures hold those within ",
                   on.cutoff, ": make them with a larger cutoff or skin");
    }
  }
}

}  // namespace detail

namespace {

// -------------------------------------------------------------------------------------- running

/// Lanes of vectors: lane l of block b is a candidate with kPotentialDirections of its directions.
struct Lanes {
  Lanes(std::int64_t candidates, std::int64_t directions)
      : width(MLCORE_DISPATCH(potential_lanes)()),
        candidates(candidates),
        directions(directions),
        groups(directions > 0 ? (directions + kernels::kPotentialDirections - 1) /
                                    kernels::kPotentialDirections
                              : 1),
        vectors(directions > 0 ? 1 + kernels::kPotentialDirections : 1),
        blocks((candidates * groups + width - 1) / width) {}

  /// Lanes that are left over repeat the last one.
  std::int64_t job(std::int64_t block, std::int64_t lane) const {
    return std::min(block * width + lane, candidates * groups - 1);
  }
  bool used(std::int64_t block, std::int64_t lane) const {
    return block * width + lane < candidates * groups;
  }

  std::int64_t width, candidates, directions, groups;
  std::int64_t vectors;  // of a number
  std::int64_t blocks;
};

class Evaluation {
 public:
  Evaluation(const PotentialModel& model, const PotentialStructures& on,
             const PotentialCandidates& candidates, const PotentialResults& results,
             const std::vector<detail::PotentialVerdict>& known)
      : model_(model),
        on_(on),
        candidates_(candidates),
        results_(results),
        known_(known),
        lanes_(static_cast<std::int64_t>(known.size()), directions_of(candidates)),
        structures_(on.starts.shape[0] - 1),
        derivatives_(lanes_.directions > 0),
        order_(known.size()) {
    // Like cutoffs side by side: a vector works as far as that of its longest lane.
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    std::stable_sort(order_.begin(), order_.end(), [&](std::int64_t a, std::int64_t b) {
      return known[a].cutoff < known[b].cutoff;
    });
    for (std::int64_t i = 0; i < on.species.shape[0]; ++i) {
      longest_row_ = std::max(longest_row_, on.offsets(i + 1) - on.offsets(i));
    }
    for (std::int64_t s = 0; s < structures_; ++s) {
      largest_ = std::max(largest_, on.starts(s + 1) - on.starts(s));
    }
  }

  void run(const Context& context) {
    if (lanes_.candidates == 0 || structures_ == 0) return;
    std::vector<std::int64_t> order(structures_);
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return pairs_of(a) > pairs_of(b); });
    stride_ = (MLCORE_DISPATCH(potential_prepared)(model_, derivatives_) + 7) / 8 * 8;
    const std::int64_t together =
        std::clamp<std::int64_t>(kMostPrepared / stride_, 1, lanes_.blocks);
    prepared_.resize(stride_ * together);
    for (std::int64_t first = 0; first < lanes_.blocks; first += together) {
      run(context, order, first, std::min(together, lanes_.blocks - first));
    }
  }

 private:
  /// What a thread writes to.
  struct Memory {
    explicit Memory(const Evaluation& of)
        : deformation(9 * of.lanes_.width),
          displacements(of.candidates_.displacements.data ? 3 * of.largest_ * of.lanes_.width : 0),
          sums(7 * of.lanes_.vectors * of.lanes_.width),
          forces(of.with_forces() ? 3 * of.largest_ * of.lanes_.vectors * of.lanes_.width : 0),
          work(MLCORE_DISPATCH(potential_work)(of.model_, of.derivatives_, of.longest_row_)) {}

    detail::Scratch<double> deformation, displacements, sums, forces;
    detail::Scratch<char> work;
  };

  std::int64_t pairs_of(std::int64_t s) const {
    return on_.offsets(on_.starts(s + 1)) - on_.offsets(on_.starts(s));
  }
  bool with_forces() const { return results_.forces.data || results_.d_forces.data; }
  bool with_stress() const { return results_.stress.data || results_.d_stress.data; }
  std::int64_t candidate(std::int64_t block, std::int64_t lane) const {
    return order_[lanes_.job(block, lane) / lanes_.groups];
  }
  std::int64_t first_direction(std::int64_t block, std::int64_t lane) const {
    return lanes_.job(block, lane) % lanes_.groups * kernels::kPotentialDirections;
  }

  /// Blocks first .. first + count - 1 of lanes.
  void run(const Context& context, const std::vector<std::int64_t>& order, std::int64_t first,
           std::int64_t count) {
    prepare(context, first, count);
    const std::int64_t units = structures_ * count;
    const std::int64_t work = std::max<std::int64_t>(on_.columns.shape[0] * count, 1);
    const std::int64_t grain = std::max<std::int64_t>(units * kWorth / work, 1);
    std::atomic<std::int64_t> next{0};
    detail::parallel_for(context, units, grain, [&](std::int64_t, std::int64_t, int) {
      Memory memory(*this);
      for (std::int64_t unit = next++; unit < units; unit = next++) {
        const double* prepared = prepared_.data() + unit % count * stride_;
        evaluate(first + unit % count, order[unit / count], prepared, memory);
      }
    });
  }

  /// Parameters of these blocks as the kernels read them.
  void prepare(const Context& context, std::int64_t first, std::int64_t count) {
    const auto kernel = MLCORE_DISPATCH(potential_prepare);
    const std::int64_t P = candidates_.parameters.shape[1], number = lanes_.vectors * lanes_.width;
    const std::int64_t grain = std::max<std::int64_t>(kWorth / (P + 1), 1);
    detail::parallel_for(context, count, grain, [&](std::int64_t begin, std::int64_t end, int) {
      detail::Scratch<double> packed(P * number);
      for (std::int64_t b = begin; b < end; ++b) {
        for (std::int64_t lane = 0; lane < lanes_.width; ++lane) {
          pack(first + b, lane, packed.data());
        }
        kernel(model_, derivatives_, packed.data(), prepared_.data() + b * stride_);
      }
    });
  }

  void pack(std::int64_t block, std::int64_t lane, double* to) const {
    const std::int64_t P = candidates_.parameters.shape[1], width = lanes_.width;
    const std::int64_t c = candidate(block, lane), first = first_direction(block, lane);
    const auto& directions = candidates_.directions;
    const double* of_candidate =
        directions.data + (directions.shape[0] > 1 ? c * P * lanes_.directions : 0);
    for (std::int64_t p = 0; p < P; ++p) {
      double* const number = to + p * lanes_.vectors * width + lane;
      number[0] = candidates_.parameters(c, p);
      for (std::int64_t k = 1; k < lanes_.vectors; ++k) {
        const std::int64_t q = first + k - 1;
        number[k * width] = q < lanes_.directions ? of_candidate[p * lanes_.directions + q] : 0.0;
      }
    }
  }

  void evaluate(std::int64_t block, std::int64_t s, const double* prepared, Memory& memory) {
    const bool wanted = !results_.wanted.data || results_.wanted(s) != 0;
    const std::int64_t width = lanes_.width, number = lanes_.vectors * width;
    kernels::PotentialJob job{};
    job.offsets = on_.offsets.data;
    job.columns = on_.columns.data;
    job.species = on_.species.data;
    job.vectors = on_.vectors.data;
    job.begin = on_.starts(s);
    job.end = on_.starts(s + 1);
    const std::int64_t n = job.end - job.begin;
    if (candidates_.deformation.data) {
      for (std::int64_t lane = 0; lane < width; ++lane) {
        const double* F = deformation_of(candidates_.deformation, candidate(block, lane), s);
        for (int k = 0; k < 9; ++k) memory.deformation[k * width + lane] = F[k];
      }
      job.deformation = memory.deformation.data();
    }
    if (candidates_.displacements.data) {
      const std::int64_t N = on_.species.shape[0];
      for (std::int64_t lane = 0; lane < width; ++lane) {
        const double* u =
            candidates_.displacements.data + 3 * (candidate(block, lane) * N + job.begin);
        for (std::int64_t k = 0; k < 3 * n; ++k) memory.displacements[k * width + lane] = u[k];
      }
      job.displacements = memory.displacements.data();
    }
    job.energy = memory.sums.data();
    if (wanted && with_stress()) job.virial = memory.sums.data() + number;
    if (wanted && with_forces()) {
      job.forces = memory.forces.data();
      std::fill_n(job.forces, 3 * n * number, 0.0);
    }
    job.work = memory.work.data();
    job.longest_row = longest_row_;
    MLCORE_DISPATCH(potential_run)(model_, derivatives_, prepared, job);
    for (std::int64_t lane = 0; lane < width; ++lane) {
      if (lanes_.used(block, lane)) write(block, lane, s, job);
    }
  }

  /// From lanes to the caller's arrays.
  void write(std::int64_t block, std::int64_t lane, std::int64_t s,
             const kernels::PotentialJob& job) const {
    const std::int64_t c = candidate(block, lane), first = first_direction(block, lane);
    const std::int64_t Q = lanes_.directions, width = lanes_.width;
    const std::int64_t number = lanes_.vectors * width, N = on_.species.shape[0];
    const bool good = known_[c].usable;
    const auto put = [&](const double* from, double scale, double* value, double* slopes) {
      const double factor = good && from ? scale : kNaN;
      if (value && first == 0) *value = factor * (from ? from[lane] : 0.0);
      for (std::int64_t k = 1; slopes && k < lanes_.vectors && first + k - 1 < Q; ++k) {
        slopes[first + k - 1] = factor * (from ? from[k * width + lane] : 0.0);
      }
    };
    const auto at = [](double* data, std::int64_t k) { return data ? data + k : nullptr; };
    const std::int64_t row = c * structures_ + s;
    put(job.energy, 1.0, at(results_.energies.data, row), at(results_.d_energies.data, row * Q));
    if (with_stress()) {
      const double* F = deformation_of(candidates_.deformation, c, s);
      const double volume = on_.volumes(s) * (F ? std::fabs(determinant_of(F)) : 1.0);
      for (std::int64_t k = 0; k < 6; ++k) {
        put(job.virial ? job.virial + k * number : nullptr, volume > 0 ? 1 / volume : kNaN,
            at(results_.stress.data, 6 * row + k), at(results_.d_stress.data, (6 * row + k) * Q));
      }
    }
    if (with_forces()) {
      const std::int64_t begin = 3 * (c * N + job.begin), size = 3 * (job.end - job.begin);
      for (std::int64_t k = 0; k < size; ++k) {
        put(job.forces ? job.forces + k * number : nullptr, 1.0,
            at(results_.forces.data, begin + k), at(results_.d_forces.data, (begin + k) * Q));
      }
    }
  }

  const PotentialModel& model_;
  const PotentialStructures& on_;
  const PotentialCandidates& candidates_;
  const PotentialResults& results_;
  const std::vector<detail::PotentialVerdict>& known_;
  Lanes lanes_;
  std::int64_t structures_;
  bool derivatives_;
  std::vector<std::int64_t> order_;  // candidates as they are put into lanes
  std::int64_t longest_row_ = 0, largest_ = 0, stride_ = 0;
  detail::Scratch<double> prepared_;
};

Device device_of(const PotentialStructures& on, const PotentialCandidates& candidates,
                 const PotentialResults& results) {
  const Device device = on.vectors.device;
  for (Device other : {on.starts.device, on.species.device, on.offsets.device, on.columns.device,
                       on.volumes.device, candidates.parameters.device,
                       candidates.directions.data ? candidates.directions.device : device,
                       candidates.deformation.data ? candidates.deformation.device : device,
                       candidates.displacements.data ? candidates.displacements.device : device,
                       results.wanted.data ? results.wanted.device : device,
                       results.energies.data ? results.energies.device : device,
                       results.forces.data ? results.forces.device : device,
                       results.stress.data ? results.stress.device : device}) {
    MLCORE_CHECK(other == device, "all arrays must live on the same device");
  }
  return device;
}

}  // namespace

std::int64_t potential_parameters(const PotentialModel& model) {
  check_model(model);
  const std::int64_t s = model.species, pairs = s * (s + 1) / 2;
  switch (model.form) {
    case PotentialForm::stillinger_weber:
    case PotentialForm::tersoff:
      return s * s * s * kColumns[static_cast<int>(model.form)];
    case PotentialForm::eam:
      return s * model.embedding_knots + (s * s + pairs) * model.radial_knots;
    default:
      return pairs * kColumns[static_cast<int>(model.form)];
  }
}

void evaluate_potentials(const Context& context, const PotentialModel& model,
                         const PotentialStructures& structures,
                         const PotentialCandidates& candidates, const PotentialResults& results) {
  check_shapes(model, structures, candidates, results);
  if (device_of(structures, candidates, results) == Device::cuda) {
    return cuda::evaluate_potentials(context, model, structures, candidates, results);
  }
  check_structures(model, structures);
  check_finite("parameters", candidates.parameters);
  if (candidates.directions.data) check_finite("directions", candidates.directions);
  if (candidates.deformation.data) check_finite("deformation", candidates.deformation);
  if (candidates.displacements.data) check_finite("displacements", candidates.displacements);
  const std::vector<detail::PotentialVerdict> known =
      detail::judge_potentials(model, candidates.parameters);
  detail::check_potential_reach(structures, candidates, known);
  Evaluation(model, structures, candidates, results, known).run(context);
}

}  // namespace mlcore
