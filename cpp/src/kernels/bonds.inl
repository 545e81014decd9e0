// Compiled once per instruction set; see simd.hpp.

#include "kernels/bonds.hpp"
#include "kernels/dual.hpp"
#include "kernels/rows.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

constexpr int kLanes = kLanesOf<double>;
constexpr double kHalfPi = 1.57079632679489661923;

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
MLCORE_LANES Scalar product(const Scalar& a, const Scalar& b) {
  return {a.v * b.v, a.v * b.t + a.t * b.v};
}
/// An entry of an array over atoms += a scalar.
MLCORE_LANES void add_to(double* entry, int stride, int parts, const Scalar& a) {
  entry[0] += a.v;
  if (parts > 1) entry[stride] += a.t;
}
MLCORE_LANES int kind_of(const BondPlan& plan, const BondJob& job, std::int64_t atom) {
  return plan.species > 1 ? job.species[atom] : 0;
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
  const double begin = plan.inner / plan.reach, width = 1 - begin;
  const Longs falling = (value_of(part) > begin) & (value_of(part) < 1.0);
  S sine, cosine;
  sine_cosine(choose(falling, part - begin, S{}) * (kHalfPi / width), sine, cosine);
  const auto counted = Entries<S>::of(job.counted, block, 2);
  counted.set(0, choose(value_of(part) < 1.0, cosine * cosine, S{}));
  counted.set(1, choose(falling, (-2 * kHalfPi / width) * (sine * cosine), S{}));
  // lanes beyond the bonds stay so
  const auto ahead = Entries<S>::of(job.ahead, block, plan.species);
  for (int c = 0; c < plan.species; ++c) ahead.set(c, S{});
}

// ------------------------------------------------------------------------------ others of an atom

/// The k-th other bond of the atom that each lane's bond begins at; itself where there is none.
struct Others {
  std::int32_t first[kLanes], count[kLanes], own[kLanes];
  int most;
  inline __attribute__((always_inline)) Others(const BondJob& job, const std::int32_t* bonds)
      : most(0) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool real = bonds[lane] < job.bonds;
      const std::int32_t atom = job.i[bonds[lane]];
      own[lane] = bonds[lane];
      first[lane] = static_cast<std::int32_t>(job.first[atom]);
      count[lane] = real ? static_cast<std::int32_t>(job.first[atom + 1]) - first[lane] - 1 : 0;
      most = count[lane] > most ? count[lane] : most;
    }
  }
  inline __attribute__((always_inline)) Longs at(int k, std::int32_t (&bonds)[kLanes]) const {
    Longs there;
    for (int lane = 0; lane < kLanes; ++lane) {
      const bool is = k < count[lane];
      const std::int32_t bond = first[lane] + k;
      bonds[lane] = is ? bond + (bond >= own[lane] ? 1 : 0) : own[lane];
      there[lane] = is ? -1 : 0;
    }
    return there;
  }
};

/// 1 / the root of 1 - c^2, see the header, and its slope by c.
template <class S>
MLCORE_LANES void inverse_sine(const S& c, S& inverse, S& slope) {
  const S square = 1.0 - c * c;
  const auto low = value_of(square) < kLeastSine;
  const S raised = (0.5 / kLeastSine) * (square * square) + 0.5 * kLeastSine;
  const S x = choose(low, raised, square);
  const S by = choose(low, square * (1 / kLeastSine), constant<S>(1.0));
  inverse = inverse_length(x);
  slope = c * by * (inverse * inverse * inverse);
}

/// Another bond: direction, w, where it leads, its angle with the lane's own.
template <class S>
struct Other {
  S unit[3], weight, cosine, inverse, slope;
  Kinds to;
  inline __attribute__((always_inline)) Other(const BondPlan& plan, const BondJob& job,
                                              const std::int32_t* bonds, const Longs& there,
                                              const S (&axis)[3], double sign)
      : to(plan, job, leads(job, bonds).data) {
    const Elsewhere<S> u(job.unit, bonds, 3), w(job.counted, bonds, 2);
    for (int k = 0; k < 3; ++k) unit[k] = u[k];
    weight = choose(there, w[0], S{});
    cosine = sign * (unit[0] * axis[0] + unit[1] * axis[1] + unit[2] * axis[2]);
    inverse_sine(cosine, inverse, slope);
  }

 private:
  struct Atoms {
    std::int32_t data[kLanes];
  };
  static inline __attribute__((always_inline)) Atoms leads(const BondJob& job,
                                                           const std::int32_t* bonds) {
    Atoms atoms;
    for (int lane = 0; lane < kLanes; ++lane) atoms.data[lane] = job.j[bonds[lane]];
    return atoms;
  }
};

/// Axis of the bonds of a block, and the other bonds of both its ends.
template <class S>
struct Axis {
  S unit[3];
  Others here, there;
  inline __attribute__((always_inline)) Axis(const BondJob& job, std::int64_t block)
      : here(job, numbers(block).data), there(job, job.back + block * kLanes) {
    const auto u = Entries<S>::of(job.unit, block, 3);
    for (int k = 0; k < 3; ++k) unit[k] = u[k];
  }
  inline __attribute__((always_inline)) Other<S> own(const BondPlan& plan, const BondJob& job,
                                                     int k) const {
    std::int32_t bonds[kLanes];
    const Longs is = here.at(k, bonds);
    return Other<S>(plan, job, bonds, is, unit, 1.0);
  }
  /// Of the other end, which sees the axis from there.
  inline __attribute__((always_inline)) Other<S> far(const BondPlan& plan, const BondJob& job,
                                                     int k) const {
    std::int32_t bonds[kLanes];
    const Longs is = there.at(k, bonds);
    return Other<S>(plan, job, bonds, is, unit, -1.0);
  }

 private:
  struct Numbers {
    std::int32_t data[kLanes];
  };
  static inline __attribute__((always_inline)) Numbers numbers(std::int64_t block) {
    Numbers bonds;
    for (int lane = 0; lane < kLanes; ++lane) {
      bonds.data[lane] = static_cast<std::int32_t>(block * kLanes + lane);
    }
    return bonds;
  }
};

// -------------------------------------------------------------------------------------- s of bonds

template <class S>
void around(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  const int kinds = plan.species;
  const Axis<S> axis(job, block);
  const auto seen = Entries<S>::of(job.around, block, plan.seen);
  const auto ahead = Entries<S>::of(job.ahead, block, kinds);
  const OfAtoms<S> count(job.count, job.i + block * kLanes, kinds);
  const OfAtoms<S> beyond(job.beyond, job.i + block * kLanes, kinds);
  const Kinds to(plan, job, job.j + block * kLanes);
  const S w = Entries<S>::of(job.counted, block, 2)[0];
  S sums[kMostSeen];
  for (int c = 0; c < kinds; ++c) {
    sums[c] = count[c] - to.only(c, w);
    sums[kinds + c] = beyond[c] - ahead[c];
  }
  for (int k = 2 * kinds; k < plan.seen; ++k) sums[k] = S{};
  for (int n = 0; n < axis.here.most; ++n) {
    const Other<S> other = axis.own(plan, job, n);
    const S past = other.cosine - plan.knot;
    const S bent = choose(value_of(past) > 0.0, past, S{});
    for (int c = 0; c < kinds; ++c) {
      S power = other.to.only(c, other.weight);
      const S knotted = power * (bent * bent * bent);
      for (int l = 1; l <= plan.order; ++l) {
        power = power * other.cosine;
        sums[(l + 1) * kinds + c] += power;
      }
      sums[(plan.order + 2) * kinds + c] += knotted;
    }
  }
  for (int k = 0; k < plan.seen; ++k) seen.set(k, sums[k] - plan.middle[k]);
}

/// Sums over pairs of another bond of each end of the powers of the cosine between them, around
/// the axis.
template <class S>
MLCORE_LANES void look_across(const BondPlan& plan, const BondJob& job, std::int64_t block,
                              S* sums) {
  const Axis<S> axis(job, block);
  for (int k = 0; k < plan.across; ++k) sums[k] = S{};
  for (int b = 0; b < axis.there.most; ++b) {
    const Other<S> two = axis.far(plan, job, b);
    for (int a = 0; a < axis.here.most; ++a) {
      const Other<S> one = axis.own(plan, job, a);
      const S dot =
          one.unit[0] * two.unit[0] + one.unit[1] * two.unit[1] + one.unit[2] * two.unit[2];
      const S turn = (dot + one.cosine * two.cosine) * (one.inverse * two.inverse);
      const S both = one.weight * two.weight;
      for (int c = 0; c < plan.species; ++c) {
        S power = one.to.only(c, two.to.only(c, both));
        for (int l = 0; l < plan.turns; ++l) {
          power = power * turn;
          sums[l * plan.species + c] += power;
        }
      }
    }
  }
}

// ------------------------------------------------------------------------------------- energies

/// Functions of a length and their slopes by r / R.
template <class S>
struct Radial {
  S value[kMostRadial], slope[kMostRadial];
  inline __attribute__((always_inline)) Radial(const BondPlan& plan, const S& part, const S& w,
                                               const S& fall) {
    const S y = exponential(plan.decay * (1.0 - part));
    S power = constant<S>(1.0);
    for (int a = 0; a < plan.radial; ++a) {
      value[a] = w * power;
      slope[a] = (fall - (a * plan.decay) * w) * power;
      power = power * y;
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

constexpr int kMostFactors = 1 + 3 * kMostSeen;

/// All of m contracted; slopes by the factors are added.
template <bool kGradient, class S, int kRadial>
MLCORE_LANES void contract(const BondPlan& plan, Contraction<S, kRadial>& made, const S* factors,
                           Doubles weight, S* by_factors) {
  for (int x = 0; x < plan.terms; ++x) {
    const std::int16_t* f = plan.products[x].factors;
    const S a = factors[f[0]];
    if (f[1] == 0) {
      const S by = made.template term<kGradient>(x, a, weight);
      if constexpr (kGradient) by_factors[f[0]] += by;
      continue;
    }
    const S b = factors[f[1]], ab = a * b;
    if (f[2] == 0) {
      const S by = made.template term<kGradient>(x, ab, weight);
      if constexpr (kGradient) {
        add(by_factors[f[0]], by, b);
        add(by_factors[f[1]], by, a);
      }
      continue;
    }
    const S c = factors[f[2]];
    const S by = made.template term<kGradient>(x, ab * c, weight);
    if constexpr (kGradient) {
      const S rest = by * c;
      add(by_factors[f[0]], rest, b);
      add(by_factors[f[1]], rest, a);
      add(by_factors[f[2]], by, ab);
    }
  }
}

template <class S, bool kGradient, int kRadial>
void energies(const BondPlan& plan, const BondJob& job, std::int64_t block, double* grown) {
  const int seen = plan.seen, turned = plan.across;
  S factors[kMostFactors], by[kMostFactors];
  const auto own = Entries<S>::of(job.around, block, seen);
  const Elsewhere<S> other(job.around, job.back + block * kLanes, seen);
  factors[0] = constant<S>(1.0);
  for (int k = 0; k < seen; ++k) {
    factors[1 + k] = own[k];
    factors[1 + seen + k] = other[k];
  }
  look_across(plan, job, block, factors + 1 + 2 * seen);
  for (int k = 0; k < 1 + 2 * seen + turned; ++k) by[k] = S{};
  const auto counted = Entries<S>::of(job.counted, block, 2);
  const Radial<S> radial(plan, Entries<S>::of(job.length, block, 2)[0], counted[0], counted[1]);
  Doubles weight;
  for (int lane = 0; lane < kLanes; ++lane)
    weight[lane] = job.weights[job.i[block * kLanes + lane]];
  const Kinds from(plan, job, job.i + block * kLanes), to(plan, job, job.j + block * kLanes);
  S energy{}, by_length{};
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
    contract<kGradient>(plan, made, factors, weight, by);
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
    for (int k = 0; k < seen; ++k) to_own.set(k, by[1 + k] * weight);
    for (int k = 0; k < seen; ++k) to_other.set(k, by[1 + seen + k] * weight);
    for (int k = 0; k < turned; ++k) to_across.set(k, by[1 + 2 * seen + k] * weight);
  }
}

// --------------------------------------------------------------------------------------- slopes

/// Adds what the other end says.
template <class S>
void gather(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  const std::int32_t* back = job.back + block * kLanes;
  const auto own = Entries<S>::of(job.by_own, block, plan.seen);
  const Elsewhere<S> other(job.by_other, back, plan.seen);
  const auto across = Entries<S>::of(job.by_across, block, plan.across);
  const Elsewhere<S> facing(job.by_across, back, plan.across);
  const auto both = Entries<S>::of(job.by_both, block, plan.across);
  for (int k = 0; k < plan.seen; ++k) own.set(k, own[k] + other[k]);
  for (int k = 0; k < plan.across; ++k) both.set(k, across[k] + facing[k]);
}

/// Slopes by another bond's w, by the cosine to it, and by its direction.
template <class S>
struct ByOther {
  S weight{}, cosine{}, unit[3]{};
};

template <class S>
MLCORE_LANES void by_cosine(const BondPlan& plan, const Other<S>& other, const Entries<S>& by_seen,
                            ByOther<S>& by) {
  const int kinds = plan.species;
  const S past = other.cosine - plan.knot;
  const S bent = choose(value_of(past) > 0.0, past, S{});
  for (int c = 0; c < kinds; ++c) {
    S sum = by_seen[(plan.order + 2) * kinds + c] * (bent * bent);
    S slope = 3.0 * sum, value = sum * bent;
    S power = constant<S>(1.0);
    for (int l = 1; l <= plan.order; ++l) {
      const S known = by_seen[(l + 1) * kinds + c];
      slope += static_cast<double>(l) * (known * power);
      power = power * other.cosine;
      value += known * power;
    }
    by.weight += other.to.only(c, value);
    by.cosine += other.to.only(c, slope) * other.weight;
  }
}

template <class S>
MLCORE_LANES void by_turn(const BondPlan& plan, const Other<S>& one, const Other<S>& two,
                          const Entries<S>& by_both, ByOther<S>& by) {
  const S dot = one.unit[0] * two.unit[0] + one.unit[1] * two.unit[1] + one.unit[2] * two.unit[2];
  const S lifted = dot + one.cosine * two.cosine, inverse = one.inverse * two.inverse;
  const S turn = lifted * inverse;
  for (int c = 0; c < plan.species; ++c) {
    S value{}, slope{}, power = constant<S>(1.0);
    for (int l = 1; l <= plan.turns; ++l) {
      const S known = by_both[(l - 1) * plan.species + c];
      slope += static_cast<double>(l) * (known * power);
      power = power * turn;
      value += known * power;
    }
    const S theirs = one.to.only(c, two.to.only(c, two.weight));
    by.weight += value * theirs;
    const S by_turned = slope * theirs * one.weight;
    by.cosine += by_turned * (two.cosine * inverse + lifted * (two.inverse * one.slope));
    const S straight = by_turned * inverse;
    for (int k = 0; k < 3; ++k) by.unit[k] += straight * two.unit[k];
  }
}

/// What the bonds of a block ask of the others of the atoms they begin at.
template <class S>
void by_others(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  const Axis<S> axis(job, block);
  const auto by_seen = Entries<S>::of(job.by_own, block, plan.seen);
  const auto by_both = Entries<S>::of(job.by_both, block, plan.across);
  S by_unit[3]{};
  for (int a = 0; a < axis.here.most; ++a) {
    const Other<S> one = axis.own(plan, job, a);
    ByOther<S> by;
    by_cosine(plan, one, by_seen, by);
    for (int b = 0; b < axis.there.most; ++b) {
      by_turn(plan, one, axis.far(plan, job, b), by_both, by);
    }
    for (int k = 0; k < 3; ++k) {
      by_unit[k] += by.cosine * one.unit[k];
      by.unit[k] += by.cosine * axis.unit[k];
    }
    const S told[4] = {by.unit[0], by.unit[1], by.unit[2], by.weight};
    for (int k = 0; k < 4; ++k) {
      double parts[kParts<S> * kLanes];
      put(parts, told[k]);
      for (int lane = 0; lane < kLanes; ++lane) {
        if (a >= axis.here.count[lane]) continue;
        const std::int32_t own = axis.here.own[lane], begin = axis.here.first[lane];
        const std::int64_t at =
            job.others[job.i[own]] + std::int64_t{own - begin} * axis.here.count[lane] + a;
        for (int p = 0; p < kParts<S>; ++p) {
          job.by_others[(at * 4 + k) * kParts<S> + p] = parts[p * kLanes + lane];
        }
      }
    }
  }
  const auto turned = Entries<S>::of(job.by_turned, block, 4);
  for (int k = 0; k < 3; ++k) turned.set(k, by_unit[k]);
  turned.set(3, S{});
}

template <class S>
void slopes(const BondPlan& plan, const BondJob& job, std::int64_t block) {
  const std::int32_t* atoms = job.i + block * kLanes;
  const std::int32_t* others = job.j + block * kLanes;
  const int kinds = plan.species;
  const OfAtoms<S> theirs(job.count, others, kinds), by_count(job.by_count, atoms, kinds);
  const OfAtoms<S> by_beyond(job.by_beyond, atoms, kinds);
  const Kinds from(plan, job, atoms), to(plan, job, others);
  const auto own = Entries<S>::of(job.by_own, block, plan.seen);
  const auto turned = Entries<S>::of(job.by_turned, block, 4);
  const auto counted = Entries<S>::of(job.counted, block, 2);
  const S w = counted[0];
  S by_weight = turned[3];
  for (int c = 0; c < kinds; ++c) {
    const S past = by_beyond[c] - own[kinds + c];
    by_weight += to.only(c, by_count[c] - own[c]) + past * theirs[c];
    by_weight -= from.only(c, 2.0 * (past * w));
  }
  const auto length = Entries<S>::of(job.length, block, 2);
  const S inverse = length[1];
  const S by_part = Entries<S>::of(job.by_length, block, 1)[0] + by_weight * counted[1];
  const auto unit = Entries<S>::of(job.unit, block, 3);
  const S u[3] = {unit[0], unit[1], unit[2]};
  const S by_unit[3] = {turned[0], turned[1], turned[2]};
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

/// kernel of each block, with derivatives where they are asked for.
#define MLCORE_OVER_BLOCKS(kernel)                                            \
  for (std::int64_t b = begin; b < end; ++b) {                                \
    job.along ? kernel<Number>(plan, job, b) : kernel<Doubles>(plan, job, b); \
  }

}  // namespace

int bond_lanes() { return kLanes; }

void bond_geometry(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  MLCORE_OVER_BLOCKS(geometry)
}

void bond_count(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  const int parts = job.along ? 2 : 1, kinds = plan.species;
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.count + i * kinds * parts;
    for (int c = 0; c < kinds * parts; ++c) to[c] = 0;
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      add_to(to + kind_of(plan, job, job.j[b]), kinds, parts, scalar(job.counted, b, 2, 0, parts));
    }
  }
}

void bond_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  const int parts = job.along ? 2 : 1, kinds = plan.species;
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.beyond + i * kinds * parts;
    for (int c = 0; c < kinds * parts; ++c) to[c] = 0;
    const int mine = kind_of(plan, job, i);
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      const double* theirs = job.count + job.j[b] * kinds * parts;
      const Scalar w = scalar(job.counted, b, 2, 0, parts);
      for (int c = 0; c < kinds; ++c) {
        Scalar rest{theirs[c], parts > 1 ? theirs[kinds + c] : 0.0};
        if (c == mine) rest = {rest.v - w.v, rest.t - w.t};
        const Scalar ahead = product(w, rest);
        double* at = job.ahead + ((b / kLanes * kinds + c) * parts) * kLanes + b % kLanes;
        at[0] = ahead.v;
        if (parts > 1) at[kLanes] = ahead.t;
        add_to(to + c, kinds, parts, ahead);
      }
    }
  }
}

void bond_around(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  MLCORE_OVER_BLOCKS(around)
}

void bond_energies(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end,
                   double* by_coefficients) {
  for (std::int64_t b = begin; b < end; ++b) {
    const bool usual = plan.radial == 5;
    if (job.along) {
      usual ? energies<Number, true, 5>(plan, job, b, by_coefficients)
            : energies<Number, true, 0>(plan, job, b, by_coefficients);
    } else if (job.gradient) {
      usual ? energies<Doubles, true, 5>(plan, job, b, by_coefficients)
            : energies<Doubles, true, 0>(plan, job, b, by_coefficients);
    } else {
      usual ? energies<Doubles, false, 5>(plan, job, b, nullptr)
            : energies<Doubles, false, 0>(plan, job, b, nullptr);
    }
  }
}

void bond_gather(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  MLCORE_OVER_BLOCKS(gather)
}

void bond_by_others(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                    std::int64_t end) {
  MLCORE_OVER_BLOCKS(by_others)
}

void bond_by_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                    std::int64_t end) {
  const int parts = job.along ? 2 : 1, kinds = plan.species;
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.by_beyond + i * kinds * parts;
    for (int c = 0; c < kinds * parts; ++c) to[c] = 0;
    const std::int64_t first = job.first[i], count = job.first[i + 1] - first;
    for (std::int64_t b = first; b < first + count; ++b) {
      for (int c = 0; c < kinds; ++c) {
        add_to(to + c, kinds, parts, scalar(job.by_own, b, plan.seen, kinds + c, parts));
      }
      // what the others of the atom ask of this one
      for (std::int64_t e = first; e < first + count; ++e) {
        if (e == b) continue;
        const std::int64_t place = b - first - (b > e ? 1 : 0);
        const double* asked =
            job.by_others + (job.others[i] + (e - first) * (count - 1) + place) * 4 * parts;
        double* at = job.by_turned + (b / kLanes * 4 * parts) * kLanes + b % kLanes;
        for (int k = 0; k < 4 * parts; ++k) at[k * kLanes] += asked[k];
      }
    }
  }
}

void bond_by_count(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  const int parts = job.along ? 2 : 1, kinds = plan.species;
  for (std::int64_t i = begin; i < end; ++i) {
    double* to = job.by_count + i * kinds * parts;
    for (int c = 0; c < kinds * parts; ++c) to[c] = 0;
    for (std::int64_t b = job.first[i]; b < job.first[i + 1]; ++b) {
      const double* by_beyond = job.by_beyond + job.j[b] * kinds * parts;
      const Scalar w = scalar(job.counted, b, 2, 0, parts);
      for (int c = 0; c < kinds; ++c) {
        add_to(to + c, kinds, parts, scalar(job.by_own, b, plan.seen, c, parts));
        const Scalar there = scalar(job.by_own, job.back[b], plan.seen, kinds + c, parts);
        const Scalar past{by_beyond[c] - there.v, parts > 1 ? by_beyond[kinds + c] - there.t : 0.0};
        add_to(to + c, kinds, parts, product(past, w));
      }
    }
  }
}

void bond_slopes(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end) {
  MLCORE_OVER_BLOCKS(slopes)
}

#undef MLCORE_OVER_BLOCKS

}  // namespace mlcore::kernels::MLCORE_ISA
