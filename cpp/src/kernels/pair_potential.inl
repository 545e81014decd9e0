// Compiled once per instruction set; see simd.hpp.

#include "kernels/lanes.hpp"
#include "kernels/pair_potential.hpp"
#include "kernels/rows.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

using V = Doubles;
constexpr int kLanes = kLanesOf<double>;
constexpr double kMagic = 0x1.8p52;  // adding it rounds to whole numbers
constexpr double kLeastSquare = 1e-290;
constexpr std::int64_t kChunk = 256;  // neighbors that wait for their turn at most

// ------------------------------------------------------------------------------------ neighbors

/// Neighbors within the cutoff: where they lie, and where their rows of the table start.
struct Near {
  alignas(64) double x[kChunk + kLanes], y[kChunk + kLanes], z[kChunk + kLanes];
  alignas(64) std::int64_t start[kChunk + kLanes];
};

/// First rows of the table for neighbors of these types.
MLCORE_LANES Longs starts_of(const PairPlan& plan, const std::int64_t* row, Longs types) {
#if defined(MLCORE_ISA_IS_avx512)
  if (plan.types <= 8) {
    return (Longs)_mm512_maskz_permutexvar_epi64(0xff, (__m512i)types, _mm512_loadu_si512(row));
  }
  return (Longs)_mm512_mask_i64gather_epi64(__m512i{}, 0xff, (__m512i)types, row, 8);
#else
  (void)plan;
  Longs result;
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = row[types[lane]];
  return result;
#endif
}

/// Particles of a list, or one of the vectors that come with it.
template <bool kTyped>
class Neighbors {
 public:
  Neighbors(const PairPlan& plan, const PairJob& job, std::int64_t row)
      : plan_(plan), job_(job), row_(row), limit_(all(plan.cutoff_square)) {
    if (job.places) {
      const double* at = job.places + 4 * row;
      for (int k = 0; k < 3; ++k) at_[k] = all(at[k]);
    }
    if constexpr (kTyped) start_ = plan.start + plan.stride * type_of(row);
  }

  std::int64_t type_of(std::int64_t particle) const {
    return job_.places ? reinterpret_cast<const std::int64_t*>(job_.places)[4 * particle + 3]
                       : job_.types[particle] - job_.first_type;
  }

  /// Vectors to neighbors e..e+count-1, count <= kLanes; starts, where there are types. Lanes
  /// beyond hold numbers of no meaning.
  inline __attribute__((always_inline)) void get(std::int64_t e, int count, V (&d)[3],
                                                 Longs& start) const {
    V place[4] = {};
    const std::int32_t* columns = job_.columns + e;
    if (job_.places) {
      const double* places = job_.places;
      if (__builtin_expect(count == kLanes, 1)) {
        columns_of(
            [&](int lane) __attribute__((always_inline)) {
              return places + 4 * static_cast<std::int64_t>(columns[lane]);
            },
            place);
      } else {
        columns_of(
            [&](int lane) __attribute__((always_inline)) {
              return places + 4 * (lane < count ? static_cast<std::int64_t>(columns[lane]) : row_);
            },
            place);
      }
      for (int k = 0; k < 3; ++k) d[k] = place[k] - at_[k];
      if constexpr (kTyped) start = starts_of(plan_, start_, (Longs)place[3]);
      return;
    }
    vectors(e, count, place);
    for (int k = 0; k < 3; ++k) d[k] = place[k];
    if constexpr (kTyped) {
      for (int lane = 0; lane < kLanes; ++lane) {
        start[lane] = lane < count ? start_[type_of(columns[lane])] : 0;
      }
    }
  }

  /// Those of `count` neighbors from e on that lie within the cutoff.
  std::int64_t find(std::int64_t e, std::int64_t count, Near& near) const {
    std::int64_t found = 0;
    for (std::int64_t k = 0; k < count; k += kLanes) {
      const int some = count - k < kLanes ? static_cast<int>(count - k) : kLanes;
      V d[3];
      Longs start{};
      get(e + k, some, d, start);
      const V square = fma(d[0], d[0], fma(d[1], d[1], d[2] * d[2]));
      const unsigned bits = less(square, limit_) & ((1u << some) - 1);
      keep(near.x + found, d[0], bits);
      keep(near.y + found, d[1], bits);
      keep(near.z + found, d[2], bits);
      if constexpr (kTyped) keep(reinterpret_cast<double*>(near.start + found), (V)start, bits);
      found += __builtin_popcount(bits);
    }
    return found;
  }

 private:
  /// Reads four numbers per vector of three, but for those at the end of the array.
  inline __attribute__((always_inline)) void vectors(std::int64_t e, int count,
                                                     V (&place)[4]) const {
    const double* from = job_.vectors + 3 * e;
    if (e + kLanes < job_.pairs) {
      columns_of([&](int lane) __attribute__((always_inline)) { return from + 3 * lane; }, place);
      return;
    }
    double last[3 * kLanes + 1] = {};
    for (int k = 0; k < 3 * count; ++k) last[k] = from[k];
    columns_of([&](int lane) __attribute__((always_inline)) { return last + 3 * lane; }, place);
  }

  const PairPlan& plan_;
  const PairJob& job_;
  std::int64_t row_;
  V limit_, at_[3];
  const std::int64_t* start_ = nullptr;
};

/// Whether the numbers of a row's neighbors, where they are read, are particles of known types, and
/// its vectors finite.
bool sound(const PairPlan& plan, const PairJob& job, std::int64_t row) {
  const std::int64_t begin = job.offsets[row], end = job.offsets[row + 1];
  if (begin < 0 || end < begin || end > job.pairs) return false;
  if (job.places || job.types) {
    std::uint32_t largest = 0;
    for (std::int64_t e = begin; e < end; ++e) {
      const auto j = static_cast<std::uint32_t>(job.columns[e]);
      largest = j > largest ? j : largest;
    }
    if (end > begin && static_cast<std::int64_t>(largest) >= job.particles) return false;
  }
  if (job.places) return true;
  double check = 0;
  for (std::int64_t k = 3 * begin; k < 3 * end; ++k) check += job.vectors[k] * 0.0;
  if (!(check == 0)) return false;
  if (!job.types) return true;
  const auto known = [&](std::int64_t particle) {
    const std::int64_t type = static_cast<std::int64_t>(job.types[particle]) - job.first_type;
    return type >= 0 && type < plan.types;
  };
  bool good = known(row);
  for (std::int64_t e = begin; e < end; ++e) good &= known(job.columns[e]);
  return good;
}

// ---------------------------------------------------------------------------------------- table

/// A place in the table.
struct Entry {
  V inverse;  // 1 / r
  V t, c[4];

  inline __attribute__((always_inline)) Entry(const PairPlan& plan, V square, Longs start) {
    square = larger(square, all(kLeastSquare));
    inverse = inverse_root(square);
    const V s = (square * inverse - plan.first) * plan.per_knot;
    const V within = smaller(larger(s, all(-0.5)), all(static_cast<double>(plan.knots) - 1.5));
    const V shifted = (within - 0.5) + kMagic;
    t = s - (shifted - kMagic);
    std::int64_t rows[kLanes];
    const Longs row = (Longs)shifted - (Longs)all(kMagic) + start + 1;
    store(reinterpret_cast<double*>(rows), (V)row);
    columns_of([&](int lane) __attribute__((always_inline)) { return plan.rows + 4 * rows[lane]; },
               c);
  }

  inline __attribute__((always_inline)) V slope() const { return fma(t, fma(t, c[3], c[2]), c[1]); }
  inline __attribute__((always_inline)) V bend(const PairPlan& plan) const {
    return fma(t + t, c[3], c[2]) * plan.per_knot;
  }
  inline __attribute__((always_inline)) V energy(const PairPlan& plan) const {
    const V mean = fma(t, fma(t * (1.0 / 3), c[3], c[2] * 0.5), c[1]);
    return fma(t * plan.spacing, mean, c[0]);
  }
};

// ------------------------------------------------------------------------------------------ run

struct Sums {
  V force[3] = {}, energy = {}, virial[6] = {};
};

/// Neighbors k..k+count-1 of those found; kLast: count < kLanes.
template <bool kTyped, bool kEnergy, bool kVirial, bool kLast>
MLCORE_LANES void add_pairs(const PairPlan& plan, const Near& near, std::int64_t k, int count,
                            Sums& sums) {
  V d[3] = {load(near.x + k), load(near.y + k), load(near.z + k)};
  Longs starts{}, real{};
  if constexpr (kTyped) starts = (Longs)load(reinterpret_cast<const double*>(near.start + k));
  if constexpr (kLast) {
    for (int lane = 0; lane < kLanes; ++lane) real[lane] = lane < count ? -1 : 0;
    for (V& v : d) v = real ? v : V{};
    starts &= real;
  }
  const V square = fma(d[0], d[0], fma(d[1], d[1], d[2] * d[2]));
  const Entry entry(plan, square, starts);
  V pull = entry.slope() * entry.inverse;
  if constexpr (kLast) pull = real ? pull : V{};
  for (int a = 0; a < 3; ++a) sums.force[a] = fma(pull, d[a], sums.force[a]);
  if constexpr (kEnergy) {
    const V energy = entry.energy(plan);
    sums.energy += kLast ? (real ? energy : V{}) : energy;
  }
  if constexpr (kVirial) {
    const V x = pull * d[0], y = pull * d[1];
    sums.virial[0] = fma(x, d[0], sums.virial[0]);
    sums.virial[1] = fma(y, d[1], sums.virial[1]);
    sums.virial[2] = fma(pull * d[2], d[2], sums.virial[2]);
    sums.virial[3] = fma(x, d[1], sums.virial[3]);
    sums.virial[4] = fma(x, d[2], sums.virial[4]);
    sums.virial[5] = fma(y, d[2], sums.virial[5]);
  }
}

template <bool kTyped, bool kEnergy, bool kVirial>
std::int64_t run(const PairPlan& plan, const PairJob& job, std::int64_t begin, std::int64_t end,
                 double* virial) {
  Near near{};
  Sums sums;
  for (std::int64_t i = begin; i < end; ++i) {
    if (!sound(plan, job, i)) return i;
    const Neighbors<kTyped> neighbors(plan, job, i);
    for (V& f : sums.force) f = V{};
    sums.energy = V{};
    const std::int64_t last = job.offsets[i + 1];
    for (std::int64_t e = job.offsets[i]; e < last; e += kChunk) {
      const std::int64_t found = neighbors.find(e, last - e < kChunk ? last - e : kChunk, near);
      std::int64_t k = 0;
      for (; k + kLanes <= found; k += kLanes) {
        add_pairs<kTyped, kEnergy, kVirial, false>(plan, near, k, kLanes, sums);
      }
      if (k < found) {
        add_pairs<kTyped, kEnergy, kVirial, true>(plan, near, k, static_cast<int>(found - k), sums);
      }
    }
    for (int a = 0; job.forces && a < 3; ++a) job.forces[3 * i + a] += lane_sum(sums.force[a]);
    if constexpr (kEnergy) job.energies[i] = job.share * lane_sum(sums.energy);
  }
  for (int k = 0; kVirial && k < 6; ++k) virial[k] = -0.5 * lane_sum(sums.virial[k]);
  return -1;
}

template <bool kTyped>
std::int64_t run_typed(const PairPlan& plan, const PairJob& job, std::int64_t begin,
                       std::int64_t end, double* virial) {
  if (virial) {
    return job.energies ? run<kTyped, true, true>(plan, job, begin, end, virial)
                        : run<kTyped, false, true>(plan, job, begin, end, virial);
  }
  return job.energies ? run<kTyped, true, false>(plan, job, begin, end, virial)
                      : run<kTyped, false, false>(plan, job, begin, end, virial);
}

// ---------------------------------------------------------------------------------- derivatives

template <bool kTyped>
std::int64_t derive(const PairPlan& plan, const PairJob& job, const PairDerivatives& out,
                    std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    if (!sound(plan, job, i)) return i;
    const Neighbors<kTyped> neighbors(plan, job, i);
    const double weight = 0.5 * out.weights[i];
    V by_weight{};
    const std::int64_t last = job.offsets[i + 1];
    for (std::int64_t e = job.offsets[i]; e < last; e += kLanes) {
      const int count = last - e < kLanes ? static_cast<int>(last - e) : kLanes;
      V d[3], along[3] = {};
      Longs start{};
      neighbors.get(e, count, d, start);
      const V square = fma(d[0], d[0], fma(d[1], d[1], d[2] * d[2]));
      const Entry entry(plan, square, start);
      const Longs counted = (square < plan.cutoff_square) & (square >= kLeastSquare);
      const V pull = counted ? entry.slope() * entry.inverse : V{};
      if (out.along) {
        for (int lane = 0; lane < count; ++lane) {
          for (int a = 0; a < 3; ++a) along[a][lane] = out.along[3 * (e + lane) + a];
        }
        const V dot = fma(d[0], along[0], fma(d[1], along[1], d[2] * along[2]));
        by_weight = fma(pull, dot, by_weight);
        const V bend = counted ? entry.bend(plan) : V{};
        const V radial = (bend - pull) * dot * (counted ? entry.inverse * entry.inverse : V{});
        for (int a = 0; a < 3; ++a) d[a] = fma(radial, d[a], pull * along[a]);
      } else {
        for (int a = 0; a < 3; ++a) d[a] *= pull;
      }
      for (int lane = 0; lane < count; ++lane) {
        for (int a = 0; a < 3; ++a) out.by_vectors[3 * (e + lane) + a] = weight * d[a][lane];
      }
    }
    if (out.along) out.by_weights[i] = 0.5 * lane_sum(by_weight);
  }
  return -1;
}

}  // namespace

bool pair_places(const double* x, const std::int32_t* types, std::int32_t first_type,
                 std::int64_t kinds, std::int64_t begin, std::int64_t end, double* places) {
  double check = 0;
  bool known = true;
  auto* numbers = reinterpret_cast<std::int64_t*>(places);
  for (std::int64_t k = begin; k < end; ++k) {
    for (int a = 0; a < 3; ++a) {
      places[4 * k + a] = x[3 * k + a];
      check += x[3 * k + a] * 0.0;
    }
    const std::int64_t type = types ? static_cast<std::int64_t>(types[k]) - first_type : 0;
    known &= type >= 0 && type < kinds;
    numbers[4 * k + 3] = type;
  }
  return known && check == 0;
}

std::int64_t pair_run(const PairPlan& plan, const PairJob& job, std::int64_t begin,
                      std::int64_t end, double* virial) {
  return plan.types > 1 ? run_typed<true>(plan, job, begin, end, virial)
                        : run_typed<false>(plan, job, begin, end, virial);
}

std::int64_t pair_derivatives(const PairPlan& plan, const PairJob& job,
                              const PairDerivatives& derivatives, std::int64_t begin,
                              std::int64_t end) {
  return plan.types > 1 ? derive<true>(plan, job, derivatives, begin, end)
                        : derive<false>(plan, job, derivatives, begin, end);
}

}  // namespace mlcore::kernels::MLCORE_ISA
