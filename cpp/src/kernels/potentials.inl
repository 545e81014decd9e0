// Compiled once per instruction set; see simd.hpp.

#include "kernels/dual.hpp"
#include "kernels/potentials.hpp"
#include "kernels/rows.hpp"

#define MLCORE_INLINE inline __attribute__((always_inline))

namespace mlcore::kernels::MLCORE_ISA {
namespace {

using V = Doubles;
constexpr int kLanes = kLanesOf<double>;
constexpr double kQuarterPi = 0.785398163397448309616;
constexpr double kTiny = 1e-290;
using Tangents = Dual<kPotentialDirections>;

/// A neighbor within the largest cutoff of the lanes.
struct Near {
  V d[3], u[3];  // vector to it, and of length 1
  V r, inverse;
  std::int64_t species, atom;
};

/// Hands out parts of the work memory.
class Pool {
 public:
  explicit Pool(char* at) : at_(at) {}
  template <class X>
  X* take(std::int64_t count) {
    X* const result = reinterpret_cast<X*>(at_);
    at_ += (count * static_cast<std::int64_t>(sizeof(X)) + 63) / 64 * 64;
    return result;
  }

 private:
  char* at_;
};

MLCORE_LANES V dot(const V (&a)[3], const V (&b)[3]) {
  return a[0] * b[0] + (a[1] * b[1] + a[2] * b[2]);
}

// ---------------------------------------------------------------------------------- pair forms
// A form has rows of prepared parameters, reach (species) of squares of the largest cutoff about an
// atom, and atom(), which adds the energy of an atom and its derivatives by the vectors to the
// neighbors.

template <class T>
struct LennardJones {
  static constexpr int kParameters = 3;
  T c12, c6, cut, offset;

  static MLCORE_INLINE LennardJones make(const T* p, bool shift) {
    LennardJones row;
    const T s2 = p[1] * p[1], s6 = s2 * s2 * s2;
    row.c6 = p[0] * s6 * 4.0;
    row.c12 = row.c6 * s6;
    row.cut = p[2];
    row.offset = T{};
    T slope;
    if (shift) row.offset = row.energy(p[2], reciprocal(p[2]), slope);
    return row;
  }
  template <class R>
  MLCORE_INLINE T energy(const R&, const R& inverse, T& slope) const {
    const R i2 = inverse * inverse, i6 = i2 * i2 * i2;
    const T repulsion = c12 * (i6 * i6), attraction = c6 * i6;
    slope = (attraction * 6.0 - repulsion * 12.0) * inverse;
    return repulsion - attraction - offset;
  }
};

template <class T>
struct Morse {
  static constexpr int kParameters = 4;
  T depth, alpha, r0, cut, offset;

  static MLCORE_INLINE Morse make(const T* p, bool shift) {
    Morse row{p[0], p[1], p[2], p[3], T{}};
    T slope;
    if (shift) row.offset = row.energy(p[3], p[3], slope);
    return row;
  }
  template <class R>
  MLCORE_INLINE T energy(const R& r, const R&, T& slope) const {
    const T e = exponential(-(alpha * (r - r0)));
    slope = depth * alpha * (e - e * e) * 2.0;
    return depth * (e * e - e * 2.0) - offset;
  }
};

template <class T>
struct Buckingham {
  static constexpr int kParameters = 4;
  T height, per_rho, c6, cut, offset;

  static MLCORE_INLINE Buckingham make(const T* p, bool shift) {
    Buckingham row{p[0], reciprocal(p[1]), p[2], p[3], T{}};
    T slope;
    if (shift) row.offset = row.energy(p[3], reciprocal(p[3]), slope);
    return row;
  }
  template <class R>
  MLCORE_INLINE T energy(const R& r, const R& inverse, T& slope) const {
    const R i2 = inverse * inverse;
    const T repulsion = height * exponential(-(per_rho * r)), attraction = c6 * (i2 * i2 * i2);
    slope = attraction * 6.0 * inverse - repulsion * per_rho;
    return repulsion - attraction - offset;
  }
};

template <class T, class Row>
struct PairForm {
  std::int64_t species;
  const V* reach;
  const Row* rows;  // (species, species)

  static std::int64_t prepared(const PotentialModel& model) {
    const std::int64_t s = model.species;
    return s * static_cast<std::int64_t>(sizeof(V)) +
           s * s * static_cast<std::int64_t>(sizeof(Row));
  }
  static std::int64_t work(const PotentialModel&, std::int64_t) { return 0; }
  PairForm(const PotentialModel& model, const double* memory)
      : species(model.species),
        reach(reinterpret_cast<const V*>(memory)),
        rows(reinterpret_cast<const Row*>(reach + species)) {}

  static void prepare(const PotentialModel& model, const T* parameters, double* memory) {
    const std::int64_t s = model.species;
    V* reach = reinterpret_cast<V*>(memory);
    Row* rows = reinterpret_cast<Row*>(reach + s);
    for (std::int64_t a = 0; a < s; ++a) reach[a] = V{};
    for (std::int64_t a = 0; a < s; ++a) {
      for (std::int64_t b = a; b < s; ++b, parameters += Row::kParameters) {
        const Row row = Row::make(parameters, model.shift);
        rows[a * s + b] = rows[b * s + a] = row;
        const V cut = value_of(row.cut);
        reach[a] = larger(cut * cut, reach[a]);
        reach[b] = larger(cut * cut, reach[b]);
      }
    }
  }

  template <bool kSlopes>
  void atom(std::int64_t center, const Near* near, std::int64_t count, T* slopes, T& energy,
            Pool) const {
    for (std::int64_t k = 0; k < count; ++k) {
      const Row& row = rows[center * species + near[k].species];
      const Longs alive = near[k].r < value_of(row.cut);
      T slope;
      const T half = row.energy(near[k].r, near[k].inverse, slope) * 0.5;
      energy += choose(alive, half, T{});
      if constexpr (kSlopes) {
        const T pull = choose(alive, slope * 0.5, T{});
        for (int a = 0; a < 3; ++a) slopes[3 * k + a] += pull * near[k].u[a];
      }
    }
  }
};

// ----------------------------------------------------------------------------- Stillinger-Weber

template <class T>
struct StillingerWeber {
  struct Row {
    T cut, sigma, log_sigma, sigma_gamma, strength, cos0, depth, b, p, q;
  };
  struct Tail {  // of a neighbor: its factor in the energy of a triplet, and slope
    T e, slope;
  };
  static constexpr int kParameters = 10;
  std::int64_t species;
  const V* reach;
  const Row* rows;  // (species, species, species)

  static std::int64_t prepared(const PotentialModel& model) {
    const std::int64_t s = model.species;
    return s * static_cast<std::int64_t>(sizeof(V)) +
           s * s * s * static_cast<std::int64_t>(sizeof(Row));
  }
  static std::int64_t work(const PotentialModel&, std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(Tail) + 1) + 128;
  }
  StillingerWeber(const PotentialModel& model, const double* memory)
      : species(model.species),
        reach(reinterpret_cast<const V*>(memory)),
        rows(reinterpret_cast<const Row*>(reach + species)) {}

  static void prepare(const PotentialModel& model, const T* parameters, double* memory) {
    const std::int64_t s = model.species;
    V* reach = reinterpret_cast<V*>(memory);
    Row* rows = reinterpret_cast<Row*>(reach + s);
    for (std::int64_t a = 0; a < s; ++a) reach[a] = V{};
    for (std::int64_t k = 0; k < s * s * s; ++k) {
      const T* p = parameters + kParameters * k;  // epsilon sigma a lambda gamma cos0 A B p q
      rows[k] = {p[2] * p[1], p[1], logarithm(p[1]), p[1] * p[4],
                 p[3] * p[0], p[5], p[6] * p[0],     p[7],
                 p[8],        p[9]};
      const V cut = value_of(rows[k].cut);
      if (k / s % s == k % s) reach[k / (s * s)] = larger(cut * cut, reach[k / (s * s)]);
    }
  }

  template <bool kSlopes>
  void atom(std::int64_t center, const Near* near, std::int64_t count, T* slopes, T& energy,
            Pool pool) const {
    Tail* const tails = pool.take<Tail>(count);
    unsigned char* const alive = pool.take<unsigned char>(count);
    const Row* const of_center = rows + center * species * species;
    for (std::int64_t k = 0; k < count; ++k) {
      const Row& row = of_center[near[k].species * (species + 1)];
      alive[k] = static_cast<unsigned char>(less(near[k].r, value_of(row.cut)));
      if (!alive[k]) continue;
      T slope;
      energy += pair(row, near[k], tails[k], slope);
      if constexpr (kSlopes) {
        for (int a = 0; a < 3; ++a) slopes[3 * k + a] += slope * near[k].u[a];
      }
    }
    for (std::int64_t j = 0; j < count; ++j) {
      if (!alive[j]) continue;
      T by_first[3] = {};
      for (std::int64_t k = j + 1; k < count; ++k) {
        if (!(alive[j] & alive[k])) continue;
        const std::int64_t first = near[j].species, second = near[k].species;
        const Row& row = first <= second ? of_center[first * species + second]
                                         : of_center[second * species + first];
        triplet<kSlopes>(row, near[j], near[k], tails[j], tails[k], by_first, slopes + 3 * k,
                         energy);
      }
      if constexpr (kSlopes) {
        for (int a = 0; a < 3; ++a) slopes[3 * j + a] += by_first[a];
      }
    }
  }

 private:
  /// Half the energy of a pair.
  static MLCORE_INLINE T pair(const Row& row, const Near& near, Tail& tail, T& slope) {
    const Longs alive = near.r < value_of(row.cut);
    const T inverse_gap = reciprocal(choose(alive, near.r - row.cut, constant<T>(-1.0)));
    const T per_length = row.log_sigma - logarithm(near.r);
    const T rise = row.b * exponential(row.p * per_length);
    const T fall = exponential(row.q * per_length);
    const T decay = exponential(row.sigma * inverse_gap) * row.depth * 0.5;
    const T gap_square = inverse_gap * inverse_gap;
    const T e = exponential(row.sigma_gamma * inverse_gap);
    tail.e = choose(alive, e, T{});
    tail.slope = choose(alive, -(row.sigma_gamma * gap_square * e), T{});
    slope = choose(
        alive,
        ((row.q * fall - row.p * rise) * near.inverse - (rise - fall) * row.sigma * gap_square) *
            decay,
        T{});
    return choose(alive, (rise - fall) * decay, T{});
  }

  template <bool kSlopes>
  static MLCORE_INLINE void triplet(const Row& row, const Near& one, const Near& two,
                                    const Tail& first, const Tail& second, T* by_one, T* by_two,
                                    T& energy) {
    const V cosine = dot(one.u, two.u);
    const T off = cosine - row.cos0, weight = row.strength * off, angular = weight * off;
    const T both = first.e * second.e;
    energy += angular * both;
    if constexpr (kSlopes) {
      const T turn = weight * both * 2.0;
      const T turn_one = turn * one.inverse, turn_two = turn * two.inverse;
      const T along_one = angular * first.slope * second.e - turn_one * cosine;
      const T along_two = angular * first.e * second.slope - turn_two * cosine;
      for (int a = 0; a < 3; ++a) {
        by_one[a] += along_one * one.u[a] + turn_one * two.u[a];
        by_two[a] += along_two * two.u[a] + turn_two * one.u[a];
      }
    }
  }
};

// --------------------------------------------------------------------------------------- Tersoff

template <class T>
struct Tersoff {
  struct Row {
    V cubic;  // 1 where m = 3
    T gamma, c2, ceiling, d2, cos0, lam3, lam3_cube, cut, inner, per_width;
    T n, half_n, beta, lam2, b, lam1, a;
  };
  struct Cut {  // of a neighbor as the third atom
    T f, slope;
  };
  struct Angle {  // of a neighbor as the third atom of the bond at hand
    T g, slope, rise, rise_slope;
    V cosine;
  };
  static constexpr int kParameters = 14;
  static constexpr double kLargest = 69.0776;  // exponent beyond which LAMMPS takes 1e30 or 0
  std::int64_t species;
  const V* reach;
  const Row* rows;        // (species, species, species)
  bool symmetric = true;  // lam3 is nowhere

  static std::int64_t prepared(const PotentialModel& model) {
    const std::int64_t s = model.species;
    return s * static_cast<std::int64_t>(sizeof(V)) +
           s * s * s * static_cast<std::int64_t>(sizeof(Row));
  }
  static std::int64_t work(const PotentialModel& model, std::int64_t count) {
    return count * (static_cast<std::int64_t>(sizeof(Cut) + 1) * model.species +
                    static_cast<std::int64_t>(sizeof(Angle))) +
           192;
  }
  Tersoff(const PotentialModel& model, const double* memory)
      : species(model.species),
        reach(reinterpret_cast<const V*>(memory)),
        rows(reinterpret_cast<const Row*>(reach + species)) {
    for (std::int64_t k = 0; k < species * species * species; ++k) {
      symmetric = symmetric && all_zero(rows[k].lam3);
    }
  }

  static void prepare(const PotentialModel& model, const T* parameters, double* memory) {
    const std::int64_t s = model.species;
    V* reach = reinterpret_cast<V*>(memory);
    Row* rows = reinterpret_cast<Row*>(reach + s);
    for (std::int64_t a = 0; a < s; ++a) reach[a] = V{};
    for (std::int64_t k = 0; k < s * s * s; ++k) {
      // m gamma lam3 c d cos0 n beta lam2 B R D lam1 A
      const T* p = parameters + kParameters * k;
      Row& row = rows[k];
      row.cubic = value_of(p[0]) == 3.0 ? all(1.0) : V{};
      row.gamma = p[1];
      row.c2 = p[3] * p[3];
      row.d2 = p[4] * p[4];
      row.ceiling = divided(row.c2, row.d2) + 1.0;
      row.cos0 = p[5];
      row.lam3 = p[2];
      row.lam3_cube = p[2] * p[2] * p[2];
      row.cut = p[10] + p[11];
      row.inner = p[10] - p[11];
      row.per_width = reciprocal(p[11]) * kQuarterPi;
      row.n = p[6];
      row.half_n = reciprocal(p[6]) * 0.5;
      row.beta = p[7];
      row.lam2 = p[8];
      row.b = p[9];
      row.lam1 = p[12];
      row.a = p[13];
      const V cut = value_of(row.cut);
      reach[k / (s * s)] = larger(cut * cut, reach[k / (s * s)]);
    }
  }

  template <bool kSlopes>
  void atom(std::int64_t center, const Near* near, std::int64_t count, T* slopes, T& energy,
            Pool pool) const {
    Cut* const cuts = pool.take<Cut>(count * species);
    unsigned char* const alive = pool.take<unsigned char>(count * species);
    Angle* const angles = pool.take<Angle>(count);
    const Row* const of_center = rows + center * species * species;
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t s = 0; s < species; ++s) {
        alive[k * species + s] = static_cast<unsigned char>(
            taper(of_center[s * species + near[k].species], near[k].r, cuts[k * species + s]));
      }
    }
    for (std::int64_t j = 0; j < count; ++j) {
      const std::int64_t s = near[j].species;
      if (!alive[j * species + s]) continue;
      const Row* const of_bond = of_center + s * species;
      T zeta{};
      for (std::int64_t k = 0; k < count; ++k) {
        if (k == j || !(alive[j * species + s] & alive[k * species + s])) continue;
        angle<kSlopes>(of_bond[near[k].species], near[j], near[k], angles[k]);
        const T term = cuts[k * species + s].f * angles[k].g;
        zeta += symmetric ? term : term * angles[k].rise;
      }
      const T by_zeta =
          bond<kSlopes>(of_bond[s], near[j], cuts[j * species + s], zeta, slopes + 3 * j, energy);
      if constexpr (kSlopes) {
        T by_bond[3] = {};
        for (std::int64_t k = 0; k < count; ++k) {
          if (k == j || !(alive[j * species + s] & alive[k * species + s])) continue;
          push(near[j], near[k], cuts[k * species + s], angles[k], by_zeta, by_bond,
               slopes + 3 * k);
        }
        for (int a = 0; a < 3; ++a) slopes[3 * j + a] += by_bond[a];
      }
    }
  }

 private:
  /// The smooth cutoff; bits of the lanes within it.
  static MLCORE_INLINE unsigned taper(const Row& row, V r, Cut& cut) {
    const V outer = value_of(row.cut), inner = value_of(row.inner);
    const unsigned within = less(r, outer);
    if (within == 0) return 0;
    const Longs alive = r < outer, whole = r < inner;
    cut.f = choose(alive, constant<T>(1.0), T{});
    cut.slope = T{};
    if (less(r, inner) == within) return within;
    T s, c;
    sine_cosine((row.cut - r) * row.per_width, s, c);
    cut.f = choose(whole, cut.f, choose(alive, s * s, T{}));
    cut.slope = choose(whole, T{}, choose(alive, s * c * row.per_width * -2.0, T{}));
    return within;
  }

  template <bool kSlopes>
  MLCORE_INLINE void angle(const Row& row, const Near& bond, const Near& third,
                           Angle& angle) const {
    angle.cosine = dot(bond.u, third.u);
    const T off = row.cos0 - angle.cosine, square = off * off;
    const T range = row.d2 + square;
    // In LAMMPS' order of operations: terms of 1e7 cancel, and what they leave is told apart.
    angle.g = row.gamma * (row.ceiling - divided(row.c2, range));
    if constexpr (kSlopes) {
      const T per = reciprocal(range);
      angle.slope = row.gamma * row.c2 * off * (per * per) * -2.0;
    }
    if (symmetric) return;
    const V ahead = bond.r - third.r;
    const Longs cubic = row.cubic > 0.5;
    const T line = row.lam3 * ahead, exponent = choose(cubic, line * line * line, line);
    const V size = value_of(exponent);
    const T rise = choose(size > kLargest, constant<T>(1e30), exponential(exponent));
    angle.rise = choose(size < -kLargest, T{}, rise);
    angle.rise_slope = angle.rise * choose(cubic, row.lam3_cube * (ahead * ahead * 3.0), row.lam3);
  }

  /// Adds the energy of a bond and its slope at fixed zeta; returns the derivative by zeta.
  template <bool kSlopes>
  static MLCORE_INLINE T bond(const Row& row, const Near& near, const Cut& cut, const T& zeta,
                              T* slopes, T& energy) {
    const T repulsion = row.a * exponential(-(row.lam1 * near.r));
    const T attraction = row.b * exponential(-(row.lam2 * near.r));
    const T product = row.beta * zeta;
    const Longs usual = value_of(product) > kTiny;
    const T x = choose(usual, product, constant<T>(kTiny));
    // order = (1 + x^n)^(-1 / 2n)
    const T power = row.n * logarithm(x);
    const Longs large = value_of(power) > 0.0;
    const T small = exponential(choose(large, -power, power));
    const T sum = choose(large, power, T{}) + logarithm_of_one_plus(small);
    const T order = exponential(-(sum * row.half_n));
    const T pull = order * attraction;
    const T half = cut.f * 0.5;
    energy += half * (repulsion - pull);
    if constexpr (!kSlopes) return T{};
    const T slope =
        cut.slope * 0.5 * (repulsion - pull) + half * (row.lam2 * pull - row.lam1 * repulsion);
    for (int a = 0; a < 3; ++a) slopes[a] += slope * near.u[a];
    const T share = choose(large, constant<T>(1.0), small) * reciprocal(small + 1.0);
    const T by_x = half * pull * share * 0.5 * reciprocal(x) * row.beta;
    return choose(usual, by_x, T{});
  }

  MLCORE_INLINE void push(const Near& bond, const Near& third, const Cut& cut, const Angle& angle,
                          const T& by_zeta, T (&by_bond)[3], T* by_third) const {
    T factor = by_zeta * cut.f, fall = by_zeta * cut.slope * angle.g;
    T stretch{};
    if (!symmetric) {
      stretch = factor * angle.g * angle.rise_slope;
      factor = factor * angle.rise;
      fall = fall * angle.rise - stretch;
    }
    const T turn = factor * angle.slope;
    const T turn_bond = turn * bond.inverse, turn_third = turn * third.inverse;
    const T along_bond = stretch - turn_bond * angle.cosine;
    const T along_third = fall - turn_third * angle.cosine;
    for (int a = 0; a < 3; ++a) {
      by_bond[a] += along_bond * bond.u[a] + turn_bond * third.u[a];
      by_third[a] += along_third * third.u[a] + turn_third * bond.u[a];
    }
  }
};

// ------------------------------------------------------------------------------------------- EAM

template <class T>
struct EmbeddedAtom {
  struct Knot {  // the cubic between it and the next: ((c[0] p + c[1]) p + c[2]) p + c[3]
    T c[4];
  };
  struct Bond {
    T slope;       // of the density
    T pair_slope;  // of half the pair's energy
  };
  std::int64_t species, embedding_knots, radial_knots;
  double per_density, per_radius, largest_density, cutoff;
  const V* reach;
  const Knot *embedding, *density, *product;

  static std::int64_t tables(const PotentialModel& model) {
    const std::int64_t s = model.species;
    return s * model.embedding_knots + (s * s + s * (s + 1) / 2) * model.radial_knots;
  }
  static std::int64_t prepared(const PotentialModel& model) {
    return model.species * static_cast<std::int64_t>(sizeof(V)) +
           tables(model) * static_cast<std::int64_t>(sizeof(Knot));
  }
  static std::int64_t work(const PotentialModel&, std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(Bond)) + 64;
  }
  EmbeddedAtom(const PotentialModel& model, const double* memory)
      : species(model.species),
        embedding_knots(model.embedding_knots),
        radial_knots(model.radial_knots),
        per_density(1.0 / model.density_spacing),
        per_radius(1.0 / model.radial_spacing),
        largest_density(model.largest_density > 0 ? model.largest_density
                                                  : static_cast<double>(model.embedding_knots - 1) *
                                                        model.density_spacing),
        cutoff(model.cutoff),
        reach(reinterpret_cast<const V*>(memory)),
        embedding(reinterpret_cast<const Knot*>(reach + species)),
        density(embedding + species * embedding_knots),
        product(density + species * species * radial_knots) {}

  static void prepare(const PotentialModel& model, const T* parameters, double* memory) {
    const std::int64_t s = model.species;
    V* reach = reinterpret_cast<V*>(memory);
    Knot* knots = reinterpret_cast<Knot*>(reach + s);
    for (std::int64_t a = 0; a < s; ++a) reach[a] = all(model.cutoff * model.cutoff);
    const std::int64_t radial = s * s + s * (s + 1) / 2;
    for (std::int64_t k = 0; k < s + radial; ++k) {
      const std::int64_t n = k < s ? model.embedding_knots : model.radial_knots;
      spline(parameters, n, knots);
      parameters += n;
      knots += n;
    }
  }

  template <bool kSlopes>
  void atom(std::int64_t center, const Near* near, std::int64_t count, T* slopes, T& energy,
            Pool pool) const {
    Bond* const bonds = pool.take<Bond>(count);
    T sum{};
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t other = near[k].species;
      const Longs alive = near[k].r < cutoff;
      const V place = near[k].r * per_radius;
      const V last = all(static_cast<double>(radial_knots - 2));
      const V knot = larger(smaller(floor_of(place), last), V{});
      const V p = smaller(place - knot, all(1.0));
      const std::int64_t low = center < other ? center : other;
      const std::int64_t high = center < other ? other : center;
      const std::int64_t row = low * species - low * (low - 1) / 2 + high - low;
      T slope;
      const T rho = read(density + (other * species + center) * radial_knots, knot, p, slope);
      sum += choose(alive, rho, T{});
      bonds[k].slope = choose(alive, slope * per_radius, T{});
      const T z = read(product + row * radial_knots, knot, p, slope);
      const T pair = z * near[k].inverse;
      energy += choose(alive, pair * 0.5, T{});
      bonds[k].pair_slope = choose(alive, (slope * per_radius - pair) * near[k].inverse * 0.5, T{});
    }
    T rise;
    energy += embed(embedding + center * embedding_knots, sum, rise);
    if constexpr (kSlopes) {
      for (std::int64_t k = 0; k < count; ++k) {
        const T slope = rise * bonds[k].slope + bonds[k].pair_slope;
        for (int a = 0; a < 3; ++a) slopes[3 * k + a] += slope * near[k].u[a];
      }
    }
  }

 private:
  /// LAMMPS' cubics through uniform knots.
  static void spline(const T* f, std::int64_t n, Knot* knots) {
    const auto slope = [&](std::int64_t m) -> T {
      if (m == 0) return f[1] - f[0];
      if (m == 1) return (f[2] - f[0]) * 0.5;
      if (m == n - 2) return (f[n - 1] - f[n - 3]) * 0.5;
      if (m == n - 1) return f[n - 1] - f[n - 2];
      return ((f[m - 2] - f[m + 2]) + (f[m + 1] - f[m - 1]) * 8.0) * (1.0 / 12.0);
    };
    for (std::int64_t m = 0; m + 1 < n; ++m) {
      const T here = slope(m), next = slope(m + 1), rise = f[m + 1] - f[m];
      knots[m] = {{here + next - rise * 2.0, rise * 3.0 - here * 2.0 - next, here, f[m]}};
    }
    knots[n - 1] = {{T{}, T{}, slope(n - 1), f[n - 1]}};
  }

  static MLCORE_INLINE V floor_of(V v) {
    const V near = (v + 0x1.8p52) - 0x1.8p52;
    return near > v ? near - 1.0 : near;
  }

  /// The coefficients of the knot of each lane.
  static MLCORE_INLINE Knot knot_of(const Knot* table, V knot) {
    std::int64_t m[kLanes];
    bool same = true;
    for (int lane = 0; lane < kLanes; ++lane) {
      m[lane] = static_cast<std::int64_t>(knot[lane]);
      same = same && m[lane] == m[0];
    }
    if (same) return table[m[0]];
    constexpr int kVectors = static_cast<int>(sizeof(Knot) / sizeof(V));
    Knot found;
    double* const to = reinterpret_cast<double*>(&found);
    for (int lane = 0; lane < kLanes; ++lane) {
      const double* const from = reinterpret_cast<const double*>(table + m[lane]) + lane;
      for (int k = 0; k < kVectors; ++k) to[k * kLanes + lane] = from[k * kLanes];
    }
    return found;
  }

  /// Value of a table, and slope per knot.
  static MLCORE_INLINE T read(const Knot* table, V knot, V p, T& slope) {
    const Knot k = knot_of(table, knot);
    slope = (k.c[0] * (p * 3.0) + k.c[1] * 2.0) * p + k.c[2];
    return ((k.c[0] * p + k.c[1]) * p + k.c[2]) * p + k.c[3];
  }

  /// Energy at a density, beyond the last knot along the line there.
  MLCORE_INLINE T embed(const Knot* table, const T& sum, T& slope) const {
    const T place = sum * per_density;
    const V last = all(static_cast<double>(embedding_knots - 2));
    const V value = value_of(place);
    const V finite = value == value ? value : V{};
    const V knot = larger(smaller(floor_of(smaller(finite, last)), last), V{});
    const T ahead = place - knot;
    const T p = choose(value_of(ahead) > 1.0, constant<T>(1.0), ahead);
    const Knot k = knot_of(table, knot);
    slope = ((k.c[0] * p * 3.0 + k.c[1] * 2.0) * p + k.c[2]) * per_density;
    const T inside = ((k.c[0] * p + k.c[1]) * p + k.c[2]) * p + k.c[3];
    const Longs beyond = value_of(sum) > largest_density;
    return choose(beyond, inside + slope * (sum - largest_density), inside);
  }
};

// ------------------------------------------------------------------------------------ structures

/// Vectors to the neighbors of atom i that lie within the reach of a lane; how many.
std::int64_t gather(const PotentialJob& job, std::int64_t i, V reach, Near* near) {
  std::int64_t count = 0;
  for (std::int64_t e = job.offsets[i]; e < job.offsets[i + 1]; ++e) {
    const std::int64_t j = job.columns[e];
    V d[3];
    for (int a = 0; a < 3; ++a) d[a] = all(job.vectors[3 * e + a]);
    if (job.deformation) {
      V moved[3];
      for (int a = 0; a < 3; ++a) {
        const double* row = job.deformation + 3 * a * kLanes;
        moved[a] = load(row) * d[0] + (load(row + kLanes) * d[1] + load(row + 2 * kLanes) * d[2]);
      }
      for (int a = 0; a < 3; ++a) d[a] = moved[a];
    }
    if (job.displacements) {
      const double* from = job.displacements + 3 * (i - job.begin) * kLanes;
      const double* to = job.displacements + 3 * (j - job.begin) * kLanes;
      for (int a = 0; a < 3; ++a) d[a] += load(to + a * kLanes) - load(from + a * kLanes);
    }
    const V square = dot(d, d);
    if (!less(square, reach)) continue;
    Near& found = near[count++];
    found.inverse = inverse_root(square);
    found.r = square * found.inverse;
    for (int a = 0; a < 3; ++a) {
      found.d[a] = d[a];
      found.u[a] = d[a] * found.inverse;
    }
    found.species = job.species[j];
    found.atom = j - job.begin;
  }
  return count;
}

template <class T, class Form, bool kSlopes>
void run(const Form& form, const PotentialJob& job) {
  Pool pool(job.work);
  Near* const near = pool.take<Near>(job.longest_row);
  T* const slopes = pool.take<T>(kSlopes ? 3 * job.longest_row : 0);
  T* const forces = reinterpret_cast<T*>(job.forces);
  T energy{}, virial[6] = {};
  for (std::int64_t i = job.begin; i < job.end; ++i) {
    const std::int64_t center = job.species[i];
    const std::int64_t count = gather(job, i, form.reach[center], near);
    if constexpr (kSlopes) {
      for (std::int64_t k = 0; k < 3 * count; ++k) slopes[k] = T{};
    }
    T own{};
    form.template atom<kSlopes>(center, near, count, slopes, own, pool);
    energy += own;
    if constexpr (!kSlopes) continue;
    T push[3] = {};
    for (std::int64_t k = 0; k < count; ++k) {
      const T* g = slopes + 3 * k;
      const V* d = near[k].d;
      virial[0] += g[0] * d[0];
      virial[1] += g[1] * d[1];
      virial[2] += g[2] * d[2];
      virial[3] += g[2] * d[1];
      virial[4] += g[2] * d[0];
      virial[5] += g[1] * d[0];
      for (int a = 0; a < 3; ++a) {
        push[a] += g[a];
        if (forces) forces[3 * near[k].atom + a] -= g[a];
      }
    }
    if (forces) {
      for (int a = 0; a < 3; ++a) forces[3 * (i - job.begin) + a] += push[a];
    }
  }
  *reinterpret_cast<T*>(job.energy) = energy;
  if constexpr (kSlopes) {
    if (job.virial) {
      for (int k = 0; k < 6; ++k) reinterpret_cast<T*>(job.virial)[k] = virial[k];
    }
  }
}

template <class X>
struct Pointed;
template <class X>
struct Pointed<X*> {
  using Type = X;
};
template <class Pointer>
using FormOf = typename Pointed<Pointer>::Type;

/// Calls body with a null pointer to the form's type.
template <class T, class Body>
void with_form(const PotentialModel& model, const Body& body) {
  switch (model.form) {
    case PotentialForm::lj:
      return body(static_cast<PairForm<T, LennardJones<T>>*>(nullptr));
    case PotentialForm::morse:
      return body(static_cast<PairForm<T, Morse<T>>*>(nullptr));
    case PotentialForm::buckingham:
      return body(static_cast<PairForm<T, Buckingham<T>>*>(nullptr));
    case PotentialForm::stillinger_weber:
      return body(static_cast<StillingerWeber<T>*>(nullptr));
    case PotentialForm::tersoff:
      return body(static_cast<Tersoff<T>*>(nullptr));
    case PotentialForm::eam:
      return body(static_cast<EmbeddedAtom<T>*>(nullptr));
  }
}

}  // namespace

int potential_lanes() { return kLanes; }

std::int64_t potential_prepared(const PotentialModel& model, bool derivatives) {
  std::int64_t bytes = 0;
  const auto size = [&](auto* form) { bytes = FormOf<decltype(form)>::prepared(model); };
  derivatives ? with_form<Tangents>(model, size) : with_form<V>(model, size);
  return bytes / static_cast<std::int64_t>(sizeof(double));
}

std::int64_t potential_work(const PotentialModel& model, bool derivatives,
                            std::int64_t longest_row) {
  std::int64_t bytes = 0;
  const auto size = [&](auto* form) { bytes = FormOf<decltype(form)>::work(model, longest_row); };
  derivatives ? with_form<Tangents>(model, size) : with_form<V>(model, size);
  const std::int64_t number = derivatives ? sizeof(Tangents) : sizeof(V);
  return bytes + longest_row * (static_cast<std::int64_t>(sizeof(Near)) + 3 * number) + 256;
}

void potential_prepare(const PotentialModel& model, bool derivatives, const double* parameters,
                       double* prepared) {
  if (derivatives) {
    with_form<Tangents>(model, [&](auto* form) {
      FormOf<decltype(form)>::prepare(model, reinterpret_cast<const Tangents*>(parameters),
                                      prepared);
    });
  } else {
    with_form<V>(model, [&](auto* form) {
      FormOf<decltype(form)>::prepare(model, reinterpret_cast<const V*>(parameters), prepared);
    });
  }
}

void potential_run(const PotentialModel& model, bool derivatives, const double* prepared,
                   const PotentialJob& job) {
  const bool slopes = job.forces || job.virial;
  if (derivatives) {
    with_form<Tangents>(model, [&](auto* form) {
      using Form = FormOf<decltype(form)>;
      const Form ready(model, prepared);
      slopes ? run<Tangents, Form, true>(ready, job) : run<Tangents, Form, false>(ready, job);
    });
  } else {
    with_form<V>(model, [&](auto* form) {
      using Form = FormOf<decltype(form)>;
      const Form ready(model, prepared);
      slopes ? run<V, Form, true>(ready, job) : run<V, Form, false>(ready, job);
    });
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
