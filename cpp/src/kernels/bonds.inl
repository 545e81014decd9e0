// Compiled once per instruction set; see simd.hpp.

#include "kernels/bonds.hpp"
#include "kernels/dual.hpp"
#include "kernels/rows.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

constexpr int kLanes = kLanesOf<double>;
constexpr double kHalfPi = 1.57079632679489661923;
constexpr double kLeastSquare = 1e-4;  // A^2, below which lengths are taken as its root
constexpr int kMostRadial = 64, kMostShells = 4;

using Number = Dual<1>;

// -------------------------------------------------------------------------------------- numbers

template <class S>
constexpr int kParts = sizeof(S) / sizeof(Doubles);

MLCORE_LANES Doubles get(const double* p, Doubles*) { return load(p); }
MLCORE_LANES Number get(const double* p, Number*) { return {load(p), {load(p + kLanes)}}; }
MLCORE_LANES void put(double* p, Doubles v) { store(p, v); }
MLCORE_LANES void put(double* p, const Number& v) {
  store(p, v.v);
  store(p + kLanes, v.t[0]);
}

/// sum += c x, c without derivatives.
MLCORE_LANES void add(Doubles& sum, Doubles c, Doubles x) { sum = fma(c, x, sum); }
MLCORE_LANES void add(Number& sum, Doubles c, const Number& x) {
  sum.v = fma(c, x.v, sum.v);
  sum.t[0] = fma(c, x.t[0], sum.t[0]);
}
MLCORE_LANES void add(Number& sum, const Number& a, const Number& b) {
  sum.v = fma(a.v, b.v, sum.v);
  sum.t[0] = fma(a.v, b.t[0], fma(a.t[0], b.v, sum.t[0]));
}
/// What a coefficient's slope grows by: t m, or its tangent.
MLCORE_LANES Doubles product(Doubles t, Doubles m) { return t * m; }
MLCORE_LANES Doubles product(const Number& t, const Number& m) {
  return fma(t.v, m.t[0], t.t[0] * m.v);
}

MLCORE_LANES Doubles inverse_length(Doubles square) {
  return inverse_root(larger(square, all(kLeastSquare)));
}
MLCORE_LANES Number inverse_length(const Number& square) {
  const Doubles r = inverse_length(square.v);
  return along(square, r, square.v > kLeastSquare ? -0.5 * r * r * r : Doubles{});
}

// --------------------------------------------------------------------------------------- memory

/// Entries of an array over bonds in a block of them.
template <class S>
struct Entries {
  double* base;
  static inline __attribute__((always_inline)) Entries of(double* array, std::int64_t block,
                                                          int count) {
    return {array + block * count * kParts<S> * kLanes};
  }
  inline __attribute__((always_inline)) S operator[](int k) const {
    return get(base + k * kParts<S> * kLanes, static_cast<S*>(nullptr));
  }
  inline __attribute__((always_inline)) void set(int k, const S& value) const {
    put(base + k * kParts<S> * kLanes, value);
  }
};

/// Entries of an array over bonds, of other bonds than those of the block.
template <class S>
struct Elsewhere {
  const double* at[kLanes];
  inline __attribute__((always_inline)) Elsewhere(const double* array, const std::int32_t* bonds,
                                                  int count) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::int64_t block = bonds[lane] / kLanes;
      at[lane] = array + block * count * kParts<S> * kLanes + bonds[lane] % kLanes;
    }
  }
  inline __attribute__((always_inline)) S operator[](int k) const {
    double parts[kParts<S>][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int p = 0; p < kParts<S>; ++p) {
        parts[p][lane] = at[lane][(k * kParts<S> + p) * kLanes];
      }
    }
    return get(parts[0], static_cast<S*>(nullptr));
  }
};

/// Entries of an array over atoms, of one atom per lane. Its rows hold values, then tangents.
template <class S>
struct OfAtoms {
  const double* at[kLanes];
  int count;
  inline __attribute__((always_inline)) OfAtoms(const double* array, const std::int32_t* atoms,
                                                int count)
      : count(count) {
    for (int lane = 0; lane < kLanes; ++lane) {
      at[lane] = array + static_cast<std::int64_t>(atoms[lane]) * count * kParts<S>;
    }
  }
  inline __attribute__((always_inline)) S operator[](int k) const {
    double parts[kParts<S>][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int p = 0; p < kParts<S>; ++p) parts[p][lane] = at[lane][k + p * count];
    }
    return get(parts[0], static_cast<S*>(nullptr));
  }
};

/// Which lanes lead to (j), or begin at (i), an atom of a species; always, where there is only one.
struct Kinds {
  Longs species;
  bool one;
  inline __attribute__((always_inline)) Kinds(const BondPlan& plan, const BondJob& job,
                                              const std::int32_t* atoms)
      : species{}, one(plan.species == 1) {
    for (int lane = 0; !one && lane < kLanes; ++lane) species[lane] = job.species[atoms[lane]];
  }
  template <class S>
  inline __attribute__((always_inline)) S only(int kind, const S& value) const {
    if (one) return value;
    return choose(species == kind, value, S{});
  }
};

/// A scalar of a bond's lane and its tangent.
struct Scalar {
  double v, t;
};
MLCORE_LANES Scalar scalar(const double* array, std::int64_t bond, int entries, int k, int parts) {
  const double* p = array + ((bond / kLanes * entries + k) * parts) * kLanes + bond % kLanes;
  return {p[0], parts > 1 ? p[kLanes] : 0.0};
}

// ------------------------------------------------------------------------------------- geometry

template <class S>
void geometry(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  S d[3];
  for (int k = 0; k < 3; ++k) {
    const std::int64_t at = (block * 3 + k) * kLanes;
    if constexpr (kParts<S> == 2) {
      d[k] = {load(job.vectors + at), {load(job.along + at)}};
    } else {
      d[k] = load(job.vectors + at);
    }
  }
  const S square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
  const S inverse = inverse_length(square);
  const S part = square * inverse * (1 / plan.reach);
  const auto unit = Entries<S>::of(job.unit, block, 3);
  for (int k = 0; k < 3; ++k) unit.set(k, d[k] * inverse);
  const auto length = Entries<S>::of(job.length, block, 2);
  length.set(0, part);
  length.set(1, inverse);
  const auto shell = Entries<S>::of(job.shell, block, plan.shells);
  S power = part * part;
  power = power * power;
  for (int q = 0; q < plan.shells; ++q) {
    const S rest = 1.0 - choose(value_of(power) < 1.0, power, constant<S>(1.0));
    shell.set(q, rest * rest);
    power = power * power * power;
  }
}

// ---------------------------------------------------------------------------------------- atoms

/// Monomials of a bond's direction and their tangents.
MLCORE_LANES void monomials_of(const BondPlan& plan, const BondJob& job, std::int64_t bond,
                               int parts, double* value, double* tangent) {
  const Monomials& m = plan.monomials;
  Scalar u[3];
  for (int k = 0; k < 3; ++k) u[k] = scalar(job.unit, bond, 3, k, parts);
  value[0] = 1;
  tangent[0] = 0;
  for (int e = 1; e < m.count; ++e) {
    const Scalar& x = u[m.axis[e]];
    value[e] = value[m.less[e]] * x.v;
    if (parts > 1) tangent[e] = value[m.less[e]] * x.t + tangent[m.less[e]] * x.v;
  }
}

/// to += factor times values; values first, then tangents, in rows of `stride`.
MLCORE_LANES void add_row(double* to, std::int64_t stride, int parts, int count, Scalar factor,
                          const double* value, const double* tangent) {
  for (int e = 0; e < count; ++e) to[e] += factor.v * value[e];
  if (parts > 1) {
    for (int e = 0; e < count; ++e) {
      to[stride + e] += factor.v * tangent[e] + factor.t * value[e];
    }
  }
}

/// What a bond adds to the slope by the sum of weights of the atom it begins at.
MLCORE_LANES void add_count(const BondPlan& plan, const BondJob& job, std::int64_t bond, int c,
                            int parts, double* to, double* to_tangent) {
  const int columns = plan.columns;
  const double* by_beyond = job.by_beyond + job.j[bond] * columns * parts;
  const Scalar total = scalar(job.by_own, bond, plan.seen, c, parts);
  const Scalar there = scalar(job.by_own, job.back[bond], plan.seen, columns + c, parts);
  const Scalar w = scalar(job.shell, bond, plan.shells, c % plan.shells, parts);
  const double past = by_beyond[c] - there.v;
  *to += total.v + past * w.v;
  if (parts > 1) *to_tangent += total.t + past * w.t + (by_beyond[columns + c] - there.t) * w.v;
}

/// The same by the moments: from its own direction, and from the moments of its other end.
template <bool kTangent>
MLCORE_LANES void add_turned(const BondPlan& plan, const BondJob& job, std::int64_t bond, int c,
                             const double* value, const double* tangent, const double* theirs,
                             const double* their_tangent, double* to, double* to_tangent) {
  const Monomials& m = plan.monomials;
  const int columns = plan.columns, turned = plan.order * columns;
  double own[2][kMostMonomials], both[2][kMostMonomials];
  for (int l = 1; l <= plan.order; ++l) {
    const int k = (l - 1) * columns + c;
    const Scalar one = scalar(job.by_own, bond, plan.seen, 2 * columns + k, kTangent ? 2 : 1);
    const Scalar two = scalar(job.by_both, bond, turned, k, kTangent ? 2 : 1);
    for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
      own[0][e] = one.v;
      both[0][e] = two.v;
      if constexpr (kTangent) {
        own[1][e] = one.t;
        both[1][e] = two.t;
      }
    }
  }
  for (int e = 1; e < m.count; ++e) {
    to[e] += own[0][e] * value[e] + both[0][e] * theirs[e];
    if constexpr (kTangent) {
      to_tangent[e] += own[0][e] * tangent[e] + own[1][e] * value[e] +
                       both[0][e] * their_tangent[e] + both[1][e] * theirs[e];
    }
  }
}

/// The same by the moments through the sums that lean on its direction.
MLCORE_LANES void add_leaning(const BondPlan& plan, const BondJob& job, std::int64_t bond, int c,
                              int parts, double* to, double* to_tangent) {
  const Monomials& m = plan.monomials;
  const int inner = m.first[plan.order] - 1;
  Scalar u[3];
  for (int a = 0; a < 3; ++a) u[a] = scalar(job.unit, bond, 3, a, parts);
  for (int e = 1; e <= inner; ++e) {
    const Scalar by = scalar(job.by_leaning, bond, plan.leaning, c * inner + e - 1, parts);
    for (int a = 0; a < 3; ++a) {
      to[m.more[e][a]] += by.v * u[a].v;
      if (parts > 1) to_tangent[m.more[e][a]] += by.v * u[a].t + by.t * u[a].v;
    }
  }
}

MLCORE_LANES int column_of(const BondPlan& plan, const BondJob& job, std::int64_t atom, int q) {
  return (plan.species > 1 ? job.species[atom] * plan.shells : 0) + q;
}

// -------------------------------------------------------------------------------------- s of bonds

/// Powers up to the order of a direction's monomials, lane by lane.
template <class S>
struct Powers {
  S of[kMostMonomials];
  inline __attribute__((always_inline)) Powers(const BondPlan& plan, const Entries<S>& unit) {
    const S u[3] = {unit[0], unit[1], unit[2]};
    const Monomials& m = plan.monomials;
    of[0] = constant<S>(1.0);
    for (int e = 1; e < m.count; ++e) of[e] = of[m.less[e]] * u[m.axis[e]];
  }
};

template <class S>
void around(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  const Monomials& m = plan.monomials;
  const std::int32_t* atoms = job.i + block * kLanes;
  const std::int32_t* others = job.j + block * kLanes;
  const int columns = plan.columns, shells = plan.shells;
  const Powers<S> powers(plan, Entries<S>::of(job.unit, block, 3));
  const OfAtoms<S> moments(job.moments, atoms, columns * m.count);
  const OfAtoms<S> theirs(job.moments, others, columns * m.count);
  const OfAtoms<S> beyond(job.beyond, atoms, columns);
  const Kinds from(plan, job, atoms), to(plan, job, others);
  const auto shell = Entries<S>::of(job.shell, block, shells);
  const auto seen = Entries<S>::of(job.around, block, plan.seen);
  const auto cosine = Entries<S>::of(job.cosine, block, plan.order * columns);
  const auto leaning = Entries<S>::of(job.leaning, block, plan.leaning);
  const int inner = m.first[plan.order] - 1;
  for (int c = 0; c < columns; ++c) {
    const int kind = c / shells;
    const S w = shell[c % shells], own = to.only(kind, w);
    for (int e = 1; e <= inner; ++e) {
      S sum = -(own * powers.of[e]);
      for (int a = 0; a < 3; ++a) {
        sum += powers.of[1 + a] * moments[c * m.count + m.more[e][a]];
      }
      leaning.set(c * inner + e - 1, sum);
    }
    seen.set(c, moments[c * m.count] - own - plan.middle[c]);
    const S past = w * (theirs[c * m.count] - from.only(kind, w));
    seen.set(columns + c, beyond[c] - past - plan.middle[columns + c]);
    for (int l = 1; l <= plan.order; ++l) {
      S sum{};
      for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
        add(sum, all(m.factor[e]), powers.of[e] * moments[c * m.count + e]);
      }
      cosine.set((l - 1) * columns + c, sum);
      const int k = (l + 1) * columns + c;
      seen.set(k, sum - own - plan.middle[k]);
    }
  }
}

// ------------------------------------------------------------------------------------- energies

/// Functions of a length and their slopes by r / R.
template <class S>
struct Radial {
  S value[kMostRadial], slope[kMostRadial];
  inline __attribute__((always_inline)) Radial(int count, const S& part, bool slopes) {
    S sine, cosine;
    sine_cosine(choose(value_of(part) < 1.0, part, constant<S>(1.0)) * kHalfPi, sine, cosine);
    const S one = 1.0 - 2.0 * (sine * sine), first = 2.0 * (sine * cosine);
    const S square = 1.0 - part * part;
    const S inside = choose(value_of(square) > 0.0, square, S{});
    const S rim = inside * inside, whole = rim * inside;
    S c = constant<S>(1.0), s{}, before = one, past = -first;  // cos, sin of a and a - 1 times
    for (int a = 0; a < count; ++a) {
      value[a] = c * whole;
      if (slopes) slope[a] = -(2 * kHalfPi * a) * (s * whole) - 6.0 * (part * (rim * c));
      const S next = 2.0 * (one * c) - before, ahead = 2.0 * (one * s) - past;
      before = c;
      past = s;
      c = next;
      s = ahead;
    }
  }
};

/// C contracted with the functions of lengths, term by term.
template <class S, int kRadial>
struct Contraction {
  const double* coefficients;
  double* grown;  // by_coefficients or null
  int radial;
  const S* t;
  S by_t[kRadial > 0 ? kRadial : kMostRadial];

  inline __attribute__((always_inline)) int count() const { return kRadial > 0 ? kRadial : radial; }
  /// sum_a t_a C_a of a term; m, what it is multiplied by, makes slopes by t and C.
  template <bool kGradient>
  inline __attribute__((always_inline)) S term(int x, const S& m, Doubles weight) {
    const double* c = coefficients + static_cast<std::int64_t>(x) * count();
    S sum{};
    for (int a = 0; a < count(); ++a) {
      const Doubles known = all(c[a]);
      if constexpr (kGradient) add(sum, known, t[a]);
      add(by_t[a], known, m);
    }
    if (kGradient && grown != nullptr) {
      const S weighted = m * weight;
      double* g = grown + static_cast<std::int64_t>(x) * count() * kLanes;
      for (int a = 0; a < count(); ++a) {
        store(g + a * kLanes, load(g + a * kLanes) + product(t[a], weighted));
      }
    }
    return sum;
  }
};

/// How the other bonds of both ends are turned against each other, and the same bond seen from
/// there.
template <class S>
struct Surroundings {
  S own[kMostSeen], other[kMostSeen], across[2 * kMostSeen];
  inline __attribute__((always_inline)) Surroundings(const BondPlan& plan, const BondJob& job,
                                                     std::int64_t block) {
    const Monomials& m = plan.monomials;
    const std::int32_t* atoms = job.i + block * kLanes;
    const std::int32_t* others = job.j + block * kLanes;
    const std::int32_t* back = job.back + block * kLanes;
    const int columns = plan.columns, shells = plan.shells;
    const auto seen = Entries<S>::of(job.around, block, plan.seen);
    const Elsewhere<S> there(job.around, back, plan.seen);
    for (int k = 0; k < plan.seen; ++k) {
      own[k] = seen[k];
      other[k] = there[k];
    }
    const Kinds from(plan, job, atoms), to(plan, job, others);
    const OfAtoms<S> mine(job.moments, atoms, columns * m.count);
    const OfAtoms<S> theirs(job.moments, others, columns * m.count);
    const auto shell = Entries<S>::of(job.shell, block, shells);
    const auto cosine = Entries<S>::of(job.cosine, block, plan.order * columns);
    const Elsewhere<S> facing(job.cosine, back, plan.order * columns);
    for (int c = 0; c < columns; ++c) {
      const S w = shell[c % shells];
      const S left = from.only(c / shells, w), right = to.only(c / shells, w);
      for (int l = 1; l <= plan.order; ++l) {
        const int k = (l - 1) * columns + c;
        S every{};
        for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
          add(every, all(m.factor[e]), mine[c * m.count + e] * theirs[c * m.count + e]);
        }
        const S shared = left * (cosine[k] - right) + right * facing[k];
        across[k] = l % 2 == 0 ? every - shared : every + shared;
      }
    }
    const auto leaning = Entries<S>::of(job.leaning, block, plan.leaning);
    const Elsewhere<S> back_leaning(job.leaning, back, plan.leaning);
    const int inner = m.first[plan.order] - 1;
    for (int c = 0; c < columns; ++c) {
      for (int l = 1; l < plan.order; ++l) {
        S sum{};
        for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
          const int k = c * inner + e - 1;
          add(sum, all(m.factor[e]), leaning[k] * back_leaning[k]);
        }
        across[(plan.order + l - 1) * columns + c] = sum;
      }
    }
  }
};

template <class S, bool kGradient, int kRadial>
void energies(const BondPlan& plan, const BondJob& job, std::int64_t block, double* grown) {
  const int seen = plan.seen, pairs = seen * (seen + 1) / 2, turned = plan.across;
  const Surroundings<S> s(plan, job, block);
  const Radial<S> radial(plan.radial, Entries<S>::of(job.length, block, 2)[0], kGradient);
  Doubles weight;
  for (int lane = 0; lane < kLanes; ++lane)
    weight[lane] = job.weights[job.i[block * kLanes + lane]];
  const Kinds from(plan, job, job.i + block * kLanes), to(plan, job, job.j + block * kLanes);
  S energy{}, by_length{}, by_own[kMostSeen], by_other[kMostSeen], by_across[2 * kMostSeen];
  for (int k = 0; k < seen; ++k) by_own[k] = by_other[k] = S{};
  for (int k = 0; k < turned; ++k) by_across[k] = S{};
  for (int kind = 0; kind < plan.species * plan.species; ++kind) {
    const Longs here =
        from.one ? Longs{} - 1
                 : (from.species == kind / plan.species) & (to.species == kind % plan.species);
    if (!from.one && all_zero((Doubles)here)) continue;
    S t[kRadial > 0 ? kRadial : kMostRadial];
    for (int a = 0; a < plan.radial; ++a) {
      t[a] = from.one ? radial.value[a] : choose(here, radial.value[a], S{});
    }
    const std::int64_t block_of_kind = static_cast<std::int64_t>(kind) * plan.terms * plan.radial;
    Contraction<S, kRadial> made{plan.coefficients + block_of_kind,
                                 grown ? grown + block_of_kind * kLanes : nullptr,
                                 plan.radial,
                                 t,
                                 {}};
    made.template term<kGradient>(0, constant<S>(1.0), weight);
    for (int k = 0; k < seen; ++k) {
      by_own[k] += made.template term<kGradient>(1 + k, s.own[k], weight);
    }
    int x = 1 + seen;
    for (int a = 0; a < seen; ++a) {
      S sum{};
      for (int b = a; b < seen; ++b, ++x) {
        const S one = made.template term<kGradient>(x, s.own[a] * s.own[b], weight);
        const S two = made.template term<kGradient>(x + pairs, s.own[a] * s.other[b], weight);
        if constexpr (!kGradient) continue;
        sum += one * s.own[b] + two * s.other[b];
        by_own[b] += one * s.own[a];
        by_other[b] += two * s.own[a];
      }
      by_own[a] += sum;
    }
    for (int k = 0; k < turned; ++k) {
      by_across[k] += made.template term<kGradient>(1 + seen + 2 * pairs + k, s.across[k], weight);
    }
    for (int a = 0; a < plan.radial; ++a) {
      energy += t[a] * made.by_t[a];
      if constexpr (kGradient) {
        const S slope = from.one ? radial.slope[a] : choose(here, radial.slope[a], S{});
        by_length += slope * made.by_t[a];
      }
    }
  }
  Entries<S>::of(job.energy, block, 1).set(0, energy);
  if constexpr (kGradient) {
    Entries<S>::of(job.by_length, block, 1).set(0, by_length * weight);
    const auto to_own = Entries<S>::of(job.by_own, block, seen);
    const auto to_other = Entries<S>::of(job.by_other, block, seen);
    const auto to_across = Entries<S>::of(job.by_across, block, turned);
    for (int k = 0; k < seen; ++k) to_own.set(k, by_own[k] * weight);
    for (int k = 0; k < seen; ++k) to_other.set(k, by_other[k] * weight);
    for (int k = 0; k < turned; ++k) to_across.set(k, by_across[k] * weight);
  }
}

// --------------------------------------------------------------------------------------- slopes

/// Adds what the other end says; what is left of slopes by cosines are those by all bonds of i.
template <class S>
void gather(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  const std::int32_t* back = job.back + block * kLanes;
  const int columns = plan.columns, turned = plan.order * columns;
  const auto own = Entries<S>::of(job.by_own, block, plan.seen);
  const Elsewhere<S> other(job.by_other, back, plan.seen);
  const auto across = Entries<S>::of(job.by_across, block, plan.across);
  const Elsewhere<S> facing(job.by_across, back, plan.across);
  const auto both = Entries<S>::of(job.by_both, block, turned);
  const auto shell = Entries<S>::of(job.shell, block, plan.shells);
  const Kinds from(plan, job, job.i + block * kLanes);
  for (int k = 0; k < plan.seen; ++k) own.set(k, own[k] + other[k]);
  for (int k = 0; k < turned; ++k) {
    const int c = k % columns, l = k / columns + 1;
    const S sum = across[k] + facing[k];
    both.set(k, sum);
    const S shared = sum * from.only(c / plan.shells, shell[c % plan.shells]);
    const S before = own[2 * columns + k];
    own.set(2 * columns + k, l % 2 == 0 ? before - shared : before + shared);
  }
  const Monomials& m = plan.monomials;
  const Elsewhere<S> leaning(job.leaning, back, plan.leaning);
  const auto by_leaning = Entries<S>::of(job.by_leaning, block, plan.leaning);
  const int inner = m.first[plan.order] - 1;
  for (int c = 0; c < columns; ++c) {
    for (int l = 1; l < plan.order; ++l) {
      const int k = turned + (l - 1) * columns + c;
      const S sum = across[k] + facing[k];
      for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
        by_leaning.set(c * inner + e - 1, sum * leaning[c * inner + e - 1] * m.factor[e]);
      }
    }
  }
}

template <class S>
void slopes(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  const Monomials& m = plan.monomials;
  const std::int32_t* atoms = job.i + block * kLanes;
  const std::int32_t* others = job.j + block * kLanes;
  const std::int32_t* back = job.back + block * kLanes;
  const int columns = plan.columns, shells = plan.shells, turned = plan.order * columns;
  const auto unit = Entries<S>::of(job.unit, block, 3);
  const Powers<S> powers(plan, unit);
  const OfAtoms<S> moments(job.moments, atoms, columns * m.count);
  const OfAtoms<S> theirs(job.moments, others, columns * m.count);
  const OfAtoms<S> by_moments(job.by_moments, atoms, columns * m.count);
  const OfAtoms<S> by_beyond(job.by_beyond, atoms, columns);
  const Kinds from(plan, job, atoms), to(plan, job, others);
  const auto shell = Entries<S>::of(job.shell, block, shells);
  const auto own = Entries<S>::of(job.by_own, block, plan.seen);
  const auto across = Entries<S>::of(job.by_across, block, plan.across);
  const auto both = Entries<S>::of(job.by_both, block, turned);
  const auto by_leaning = Entries<S>::of(job.by_leaning, block, plan.leaning);
  const int inner = m.first[plan.order] - 1;
  const auto cosine = Entries<S>::of(job.cosine, block, turned);
  const Elsewhere<S> facing(job.cosine, back, turned);
  S by_power[kMostMonomials], by_shell[kMostShells], by_unit[3] = {};
  for (int e = 0; e < m.count; ++e) by_power[e] = S{};
  for (int q = 0; q < shells; ++q) by_shell[q] = S{};
  for (int c = 0; c < columns; ++c) {
    const int q = c % shells;
    const S w = shell[q], left = from.only(c / shells, w), right = to.only(c / shells, w);
    // slopes by w as one of the bonds of i, and as the one whose end is looked from
    S one = by_moments[c * m.count] - own[c], two{};
    const S past = by_beyond[c] - own[columns + c];
    by_shell[q] += past * (theirs[c * m.count] - left);
    two -= past * w;
    for (int l = 1; l <= plan.order; ++l) {
      const int k = (l - 1) * columns + c;
      const S sign = l % 2 == 0 ? across[k] : -across[k];
      const S shared = both[k] * left;
      one -= own[2 * columns + k] + (l % 2 == 0 ? shared : -shared);
      one += sign * (left - facing[k]);
      two -= sign * (cosine[k] - right);
      for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
        one += by_moments[c * m.count + e] * powers.of[e];
        by_power[e] += right * by_moments[c * m.count + e] +
                       m.factor[e] * (own[2 * columns + k] * moments[c * m.count + e]);
      }
    }
    for (int e = 1; e <= inner; ++e) {
      const S by = by_leaning[c * inner + e - 1];
      one -= by * powers.of[e];
      by_power[e] -= right * by;
      for (int a = 0; a < 3; ++a) by_unit[a] += by * moments[c * m.count + m.more[e][a]];
    }
    by_shell[q] += to.only(c / shells, one) + from.only(c / shells, two);
  }
  const S u[3] = {unit[0], unit[1], unit[2]};
  for (int e = m.count - 1; e > 0; --e) {
    by_unit[m.axis[e]] += by_power[e] * powers.of[m.less[e]];
    by_power[m.less[e]] += by_power[e] * u[m.axis[e]];
  }
  const auto length = Entries<S>::of(job.length, block, 2);
  const S part = length[0], inverse = length[1];
  S by_part = Entries<S>::of(job.by_length, block, 1)[0];
  S low = part * part * part, power = low * part;  // p^(e - 1), p^e
  double exponent = 4;
  for (int q = 0; q < shells; ++q) {
    const S inside = choose(value_of(power) < 1.0, 1.0 - power, S{});
    by_part -= (2 * exponent) * (by_shell[q] * (low * inside));
    low = low * (power * power);
    power = power * power * power;
    exponent *= 3;
  }
  const S dot = by_unit[0] * u[0] + by_unit[1] * u[1] + by_unit[2] * u[2];
  const S pull = by_part * (1 / plan.reach);
  // so short that its inverse is taken as constant
  const Longs tiny = value_of(inverse) * value_of(inverse) * kLeastSquare > 1 - 1e-14;
  const auto out = Entries<S>::of(job.slope, block, 3);
  for (int k = 0; k < 3; ++k) {
    const S usual = inverse * (by_unit[k] - u[k] * dot) + u[k] * pull;
    const S close = inverse * by_unit[k] + 2.0 * (u[k] * pull);
    out.set(k, choose(tiny, close, usual));
  }
}

}  // namespace

int bond_lanes() { return kLanes; }

void bond_geometry(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  for (std::int64_t b = begin; b < end; ++b) {
    job.along ? geometry<Number>(plan, job, b) : geometry<Doubles>(plan, job, b);
  }
}

void bond_moments(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  const int parts = job.along ? 2 : 1, count = plan.monomials.count;
  const std::int64_t stride = static_cast<std::int64_t>(plan.columns) * count;
  double value[kMostMonomials], tangent[kMostMonomials];
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.moments + i * stride * parts;
    for (std::int64_t k = 0; k < stride * parts; ++k) to[k] = 0;
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      monomials_of(plan, job, b, parts, value, tangent);
      for (int q = 0; q < plan.shells; ++q) {
        add_row(to + column_of(plan, job, job.j[b], q) * count, stride, parts, count,
                scalar(job.shell, b, plan.shells, q, parts), value, tangent);
      }
    }
  }
}

void bond_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  const int parts = job.along ? 2 : 1, count = plan.monomials.count, columns = plan.columns;
  const std::int64_t stride = static_cast<std::int64_t>(columns) * count;
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.beyond + i * columns * parts;
    for (int c = 0; c < columns * parts; ++c) to[c] = 0;
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      const double* theirs = job.moments + job.j[b] * stride * parts;
      for (int c = 0; c < columns; ++c) {
        const int q = c % plan.shells;
        const Scalar w = scalar(job.shell, b, plan.shells, q, parts);
        const double mine = column_of(plan, job, i, q) == c ? 1.0 : 0.0;
        const double rest = theirs[c * count] - mine * w.v;
        to[c] += w.v * rest;
        if (parts > 1) {
          to[columns + c] += w.t * rest + w.v * (theirs[stride + c * count] - mine * w.t);
        }
      }
    }
  }
}

void bond_around(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  for (std::int64_t b = begin; b < end; ++b) {
    job.along ? around<Number>(plan, job, b) : around<Doubles>(plan, job, b);
  }
}

void bond_energies(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end,
                   double* by_coefficients) {
  for (std::int64_t b = begin; b < end; ++b) {
    const bool usual = plan.radial == 8;
    if (job.along) {
      usual ? energies<Number, true, 8>(plan, job, b, by_coefficients)
            : energies<Number, true, 0>(plan, job, b, by_coefficients);
    } else if (job.gradient) {
      usual ? energies<Doubles, true, 8>(plan, job, b, by_coefficients)
            : energies<Doubles, true, 0>(plan, job, b, by_coefficients);
    } else {
      usual ? energies<Doubles, false, 8>(plan, job, b, nullptr)
            : energies<Doubles, false, 0>(plan, job, b, nullptr);
    }
  }
}

void bond_gather(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  for (std::int64_t b = begin; b < end; ++b) {
    job.along ? gather<Number>(plan, job, b) : gather<Doubles>(plan, job, b);
  }
}

void bond_by_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                    std::int64_t end) {
  const int parts = job.along ? 2 : 1, columns = plan.columns;
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.by_beyond + i * columns * parts;
    for (int c = 0; c < columns * parts; ++c) to[c] = 0;
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      for (int c = 0; c < columns; ++c) {
        const Scalar s = scalar(job.by_own, b, plan.seen, columns + c, parts);
        to[c] += s.v;
        if (parts > 1) to[columns + c] += s.t;
      }
    }
  }
}

void bond_by_moments(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end) {
  const Monomials& m = plan.monomials;
  const int parts = job.along ? 2 : 1, columns = plan.columns;
  const std::int64_t stride = static_cast<std::int64_t>(columns) * m.count;
  double value[kMostMonomials], tangent[kMostMonomials];
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.by_moments + i * stride * parts;
    for (std::int64_t k = 0; k < stride * parts; ++k) to[k] = 0;
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      monomials_of(plan, job, b, parts, value, tangent);
      for (int c = 0; c < columns; ++c) {
        double* row = to + c * m.count;
        const double* theirs = job.moments + job.j[b] * stride * parts + c * m.count;
        add_count(plan, job, b, c, parts, row, row + stride);
        if (parts > 1) {
          add_turned<true>(plan, job, b, c, value, tangent, theirs, theirs + stride, row,
                           row + stride);
        } else {
          add_turned<false>(plan, job, b, c, value, nullptr, theirs, nullptr, row, nullptr);
        }
      }
    }
    // every monomial comes as often as its coefficient says
    for (int p = 0; p < parts; ++p) {
      for (int c = 0; c < columns; ++c) {
        for (int e = 1; e < m.count; ++e) to[p * stride + c * m.count + e] *= m.factor[e];
      }
    }
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      for (int c = 0; c < columns; ++c) {
        add_leaning(plan, job, b, c, parts, to + c * m.count, to + stride + c * m.count);
      }
    }
  }
}

void bond_slopes(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  for (std::int64_t b = begin; b < end; ++b) {
    job.along ? slopes<Number>(plan, job, b) : slopes<Doubles>(plan, job, b);
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
