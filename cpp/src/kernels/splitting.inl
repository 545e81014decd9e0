// Compiled once per instruction set; see simd.hpp.

#include "kernels/lanes.hpp"
#include "kernels/rows.hpp"
#include "kernels/sphere.hpp"
#include "kernels/splitting.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

using V = Doubles;
constexpr int kLanes = kLanesOf<double>;
constexpr double kMagic = 0x1.8p52;  // adding it rounds to whole numbers
constexpr double kLeastSquare = 1e-70;
constexpr double kInfinity = __builtin_inf();
constexpr std::int64_t kChunk = 256;  // neighbors that wait for their turn at most

constexpr int kTooClose = 1, kNotFinite = 2;  // SplittingStatus

MLCORE_LANES V nearest(V x) { return (x + kMagic) - kMagic; }
MLCORE_LANES Longs load_longs(const std::int64_t* p) {
  return (Longs)load(reinterpret_cast<const double*>(p));
}
MLCORE_LANES double least(V v) {
  double parts[kLanes], result = kInfinity;
  store(parts, v);
  for (double part : parts) result = part < result ? part : result;
  return result;
}

/// Distance vectors to the nearest image.
template <ImageKind kImages>
MLCORE_LANES void wrap(const SplittingSpace& space, V (&d)[3]) {
  if constexpr (kImages == ImageKind::straight) {
    for (int k = 0; k < 3; ++k) {
      d[k] = fnma(nearest(d[k] * space.inverse_edge[k]), all(space.edge[k]), d[k]);
    }
  }
  if constexpr (kImages == ImageKind::slanted) {
    V shift[3];
    for (int axis = 0; axis < 3; ++axis) {
      const double* inverse = space.inverse_cell + axis;
      shift[axis] =
          nearest(fma(d[2], all(inverse[6]), fma(d[1], all(inverse[3]), d[0] * inverse[0])));
    }
    for (int axis = 0; axis < 3; ++axis) {
      for (int k = 0; k < 3; ++k) d[k] = fnma(shift[axis], all(space.cell[3 * axis + k]), d[k]);
    }
  }
}

/// G at square distances below the cutoff, from the table at `rows`.
MLCORE_LANES V pair_push(const SplittingPlan& plan, const double* rows, V square, Longs start) {
  const V limited = larger(smaller(square, all(plan.cutoff_square)), all(kLeastSquare));
  const V u = inverse_root(limited);
  const V s = (smaller(u, all(plan.u_hi)) - plan.u_lo) * plan.per_u;
  const V last = all(static_cast<double>(plan.intervals) - 1);
  const V shifted = larger(smaller(s - 0.5, last), V{}) + kMagic;
  const V t = s - (shifted - kMagic);
  std::int64_t numbers[kLanes];
  store(reinterpret_cast<double*>(numbers), (V)((Longs)shifted - (Longs)all(kMagic) + start));
  V c[4];
  columns_of([&](int lane) __attribute__((always_inline)) { return rows + 4 * numbers[lane]; }, c);
  const V S = fma(t, fma(t, fma(t, c[3], c[2]), c[1]), c[0]);
  const V u2 = u * u, u4 = u2 * u2;
  return S * (u4 * u4);
}

// ------------------------------------------------------------------------------------ all pairs

/// Every pair once: i and i + s, counted in a circle, act on each other. Returns the square of the
/// smallest distance.
template <bool kTyped, ImageKind kImages>
double kick_all(const SplittingPlan& plan, const SplittingSpace& space,
                const SplittingReplica& replica, int stage) {
  const std::int64_t n = replica.n, wide = replica.wide;
  const double* rows = plan.rows + 4 * plan.table[stage];
  double *first = replica.pushes, *second = first + 3 * wide;
  for (std::int64_t e = 0; e < 6 * wide; e += kLanes) store(first + e, V{});
  V closest = all(kInfinity);
  for (std::int64_t i = 0; i < n; i += kLanes) {
    const double* x = replica.x + i;
    V xi[3], sum[3] = {};
    for (int k = 0; k < 3; ++k) xi[k] = load(x + k * wide);
    for (std::int64_t s = 1; 2 * s <= n; ++s) {
      const std::int64_t count = 2 * s == n ? s : n;
      if (i >= count) break;
      V d[3];
      for (int k = 0; k < 3; ++k) d[k] = xi[k] - load(x + k * wide + s);
      wrap<kImages>(space, d);
      const V far = load(replica.far + n - count + i);
      const V square = fma(d[0], d[0], fma(d[1], d[1], fma(d[2], d[2], far)));
      closest = smaller(square, closest);
      Longs start{};
      if constexpr (kTyped) start = load_longs(replica.starts + (s - 1) * replica.padded + i);
      const V push = pair_push(plan, rows, square, start);
      const V counted = square < plan.cutoff_square ? push : V{};
      for (int k = 0; k < 3; ++k) {
        double* other = second + k * wide + i + s;
        const V pull = counted * d[k];
        sum[k] += pull;
        store(other, load(other) - pull);
      }
    }
    for (int k = 0; k < 3; ++k) store(first + k * wide + i, sum[k]);
  }
  for (int k = 0; k < 3; ++k) {
    const double *one = first + k * wide, *other = second + k * wide;
    double* v = replica.v + k * wide;
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const V sum = load(one + i) + (load(other + i) + load(other + n + i));
      store(v + i, fma(load(replica.push + i), sum, load(v + i)));
    }
  }
  return least(closest);
}

/// Writes the particles once more behind themselves.
void repeat(const SplittingReplica& replica) {
  const std::int64_t n = replica.n, padded = replica.padded;
  for (int k = 0; k < 3; ++k) {
    double* x = replica.x + k * replica.wide;
    if (n < kLanes) {
      for (std::int64_t i = 0; i < padded; ++i) x[n + i] = x[i];
    } else {
      for (std::int64_t i = 0; i < padded; i += kLanes) store(x + n + i, load(x + i));
    }
  }
}

void drift_all(const SplittingSpace& space, const SplittingReplica& replica, double drift) {
  const std::int64_t wide = replica.wide;
  for (std::int64_t i = 0; i < replica.padded; i += kLanes) {
    double *x = replica.x + i, *v = replica.v + i;
    if (space.wall > 0) {
      drift_inside(space.wall, 3, drift, x, v, wide);
    } else {
      for (int k = 0; k < 3; ++k) {
        store(x + k * wide, fma(all(drift), load(v + k * wide), load(x + k * wide)));
      }
    }
  }
  repeat(replica);
}

/// Whether all numbers are finite, and the particles not too far off.
bool sensible(const SplittingSpace& space, const SplittingReplica& replica) {
  const V far = all(space.farthest);
  bool good = true;
  for (int k = 0; k < 3; ++k) {
    const double *x = replica.x + k * replica.wide, *v = replica.v + k * replica.wide;
    for (std::int64_t i = 0; i < replica.n; i += kLanes) {
      const unsigned all_lanes = (1u << kLanes) - 1;
      const unsigned real = replica.n - i < kLanes ? (1u << (replica.n - i)) - 1 : all_lanes;
      const V at = load(x + i);
      good &= (less(at, far) & less(-far, at) & less(load(v + i) * 0.0, all(1.0)) & real) == real;
    }
  }
  return good;
}

/// One step; 0 or why it is not good.
template <bool kTyped, ImageKind kImages>
int step_all(const SplittingPlan& plan, const SplittingSpace& space,
             const SplittingReplica& replica, double* closest_square) {
  drift_all(space, replica, plan.drift[0]);
  for (int k = 0; k < plan.kicks; ++k) {
    const double square = kick_all<kTyped, kImages>(plan, space, replica, k);
    if (square < plan.cutoff_square && square < *closest_square) *closest_square = square;
    if (square < plan.closest_square) return kTooClose;
    drift_all(space, replica, plan.drift[k + 1]);
  }
  return sensible(space, replica) ? 0 : kNotFinite;
}

MLCORE_LANES void copy(const double* from, double* to, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLanes) store(to + i, load(from + i));
}

template <bool kTyped, ImageKind kImages>
std::int64_t steps_all(const SplittingPlan& plan, const SplittingSpace& space,
                       const SplittingReplica& replica, std::int64_t steps, double* closest_square,
                       int* status) {
  const std::int64_t size = 3 * replica.wide;
  for (std::int64_t step = 0; step < steps; ++step) {
    copy(replica.x, replica.before, size);
    copy(replica.v, replica.before + size, size);
    *status = step_all<kTyped, kImages>(plan, space, replica, closest_square);
    if (*status != 0) {
      copy(replica.before, replica.x, size);
      copy(replica.before + size, replica.v, size);
      return step;
    }
  }
  return steps;
}

template <bool kTyped>
std::int64_t steps_typed(const SplittingPlan& plan, const SplittingSpace& space,
                         const SplittingReplica& replica, std::int64_t steps,
                         double* closest_square, int* status) {
  if (space.images == ImageKind::open) {
    return steps_all<kTyped, ImageKind::open>(plan, space, replica, steps, closest_square, status);
  }
  if (space.images == ImageKind::straight) {
    return steps_all<kTyped, ImageKind::straight>(plan, space, replica, steps, closest_square,
                                                  status);
  }
  return steps_all<kTyped, ImageKind::slanted>(plan, space, replica, steps, closest_square, status);
}

// ---------------------------------------------------------------------------------------- rows

/// Neighbors within the cutoff: where they lie, how far, and where their rows of the table start.
struct Near {
  alignas(64) double x[kChunk + kLanes], y[kChunk + kLanes], z[kChunk + kLanes];
  alignas(64) double square[kChunk + kLanes];
  alignas(64) std::int64_t start[kChunk + kLanes];
};

/// Whether the neighbors of a row are particles.
bool sound(const SplittingRows& rows, std::int64_t row) {
  const std::int64_t begin = rows.offsets[row], end = rows.offsets[row + 1];
  if (begin < 0 || end < begin || end > rows.pairs) return false;
  std::uint32_t largest = 0;
  for (std::int64_t e = begin; e < end; ++e) {
    const auto j = static_cast<std::uint32_t>(rows.columns[e]);
    largest = j > largest ? j : largest;
  }
  return end == begin || static_cast<std::int64_t>(largest) < rows.particles;
}

/// Appends those of neighbors e..e+count-1 of particle `at` that lie within the cutoff to `found`.
template <bool kTyped>
MLCORE_LANES std::int64_t find(const SplittingPlan& plan, const SplittingRows& rows,
                               const double* at, std::int64_t e, int count, std::int64_t found,
                               Near& near) {
  const double* places = rows.places;
  const std::int32_t* columns = rows.columns + e;
  V place[4], d[3];
  columns_of(
      [&](int lane) __attribute__((always_inline)) {
        return places + 4 * static_cast<std::int64_t>(columns[lane < count ? lane : 0]);
      },
      place);
  for (int k = 0; k < 3; ++k) d[k] = at[k] - place[k];
  const V square = fma(d[0], d[0], fma(d[1], d[1], d[2] * d[2]));
  const unsigned bits = less(square, all(plan.cutoff_square)) & ((1u << count) - 1);
  keep(near.x + found, d[0], bits);
  keep(near.y + found, d[1], bits);
  keep(near.z + found, d[2], bits);
  keep(near.square + found, square, bits);
  if constexpr (kTyped) {
    const std::int64_t* starts =
        plan.start + plan.stride * reinterpret_cast<const std::int64_t*>(at)[3];
    Longs start;
    const Longs species = (Longs)place[3];
    for (int lane = 0; lane < kLanes; ++lane) start[lane] = starts[species[lane]];
    keep(reinterpret_cast<double*>(near.start + found), (V)start, bits);
  }
  return found + __builtin_popcount(bits);
}

struct Sums {
  V push[3] = {}, closest = all(kInfinity);
};

/// Adds the pushes of the neighbors k.. of those found: a vector of them, or the last `count`.
template <bool kTyped, bool kLast>
MLCORE_LANES void add_pairs(const SplittingPlan& plan, const double* table, const Near& near,
                            std::int64_t k, std::int64_t count, Sums& sums) {
  V d[3] = {load(near.x + k), load(near.y + k), load(near.z + k)};
  V square = load(near.square + k);
  Longs start{};
  if constexpr (kTyped) start = load_longs(near.start + k);
  Longs real{};
  if constexpr (kLast) {
    for (int lane = 0; lane < kLanes; ++lane) real[lane] = lane < count ? -1 : 0;
    for (V& coordinate : d) coordinate = real ? coordinate : V{};
    square = real ? square : all(kInfinity);
    start &= real;
  }
  sums.closest = smaller(square, sums.closest);
  V push = pair_push(plan, table, square, start);
  if constexpr (kLast) push = real ? push : V{};
  for (int a = 0; a < 3; ++a) sums.push[a] = fma(push, d[a], sums.push[a]);
}

/// Adds the pushes of whole vectors of those found, moves the rest to the front; their number.
template <bool kTyped>
MLCORE_LANES std::int64_t add_whole(const SplittingPlan& plan, const double* table, Near& near,
                                    std::int64_t found, Sums& sums) {
  std::int64_t k = 0;
  for (; k + kLanes <= found; k += kLanes) {
    add_pairs<kTyped, false>(plan, table, near, k, kLanes, sums);
  }
  double* const columns[] = {near.x, near.y, near.z, near.square,
                             reinterpret_cast<double*>(near.start)};
  for (double* column : columns) store(column, load(column + k));
  return found - k;
}

template <bool kTyped>
std::int64_t kick_rows(const SplittingPlan& plan, int stage, const SplittingRows& rows,
                       std::int64_t begin, std::int64_t end, double* closest_square) {
  const double* table = plan.rows + 4 * plan.table[stage];
  Near near;
  Sums sums;
  for (std::int64_t i = begin; i < end; ++i) {
    if (!rows.checked && !sound(rows, i)) return i;
    const double* at = rows.places + 4 * i;
    for (V& push : sums.push) push = V{};
    std::int64_t found = 0, e = rows.offsets[i];
    const std::int64_t last = rows.offsets[i + 1];
    for (; e + kLanes <= last; e += kLanes) {
      found = find<kTyped>(plan, rows, at, e, kLanes, found, near);
      if (found > kChunk - kLanes) found = add_whole<kTyped>(plan, table, near, found, sums);
    }
    if (e < last) {
      found = find<kTyped>(plan, rows, at, e, static_cast<int>(last - e), found, near);
    }
    found = add_whole<kTyped>(plan, table, near, found, sums);
    if (found > 0) add_pairs<kTyped, true>(plan, table, near, 0, found, sums);
    const double push =
        plan.push[kTyped ? reinterpret_cast<const std::int64_t*>(at)[3] : std::int64_t{0}];
    for (int k = 0; k < 3; ++k) rows.v[3 * i + k] += push * lane_sum(sums.push[k]);
  }
  const double square = least(sums.closest);
  if (square < *closest_square) *closest_square = square;
  return -1;
}

}  // namespace

int splitting_lanes() { return kLanes; }

std::int64_t splitting_steps(const SplittingPlan& plan, const SplittingSpace& space,
                             const SplittingReplica& replica, std::int64_t steps,
                             double* closest_square, int* status) {
  return plan.species > 1 ? steps_typed<true>(plan, space, replica, steps, closest_square, status)
                          : steps_typed<false>(plan, space, replica, steps, closest_square, status);
}

std::int64_t splitting_kick(const SplittingPlan& plan, int stage, const SplittingRows& rows,
                            std::int64_t begin, std::int64_t end, double* closest_square) {
  return plan.species > 1 ? kick_rows<true>(plan, stage, rows, begin, end, closest_square)
                          : kick_rows<false>(plan, stage, rows, begin, end, closest_square);
}

double splitting_drift(const SplittingSpace& space, double drift, std::int64_t begin,
                       std::int64_t end, double* x, double* v, const double* start) {
  double longest = 0;
  for (std::int64_t i = 3 * begin; i < 3 * end; i += 3) {
    double to[3], square = 0;
    for (int k = 0; k < 3; ++k) {
      to[k] = x[i + k] + drift * v[i + k];
      square += to[k] * to[k];
    }
    if (space.wall > 0 && square > space.wall * space.wall) {
      fly(space.wall, 3, x + i, v + i, 1, drift);
    } else {
      for (int k = 0; k < 3; ++k) x[i + k] = to[k];
    }
    double moved = 0;
    for (int k = 0; k < 3; ++k) moved += (x[i + k] - start[i + k]) * (x[i + k] - start[i + k]);
    if (!(moved <= longest)) longest = moved;
  }
  return longest;
}

}  // namespace mlcore::kernels::MLCORE_ISA
