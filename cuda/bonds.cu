// Mirrors cpp/src/bonds.cpp and kernels/bonds.inl, phase by phase: one thread per bond or atom, or
// per entry of one. Arrays hold an entry of all bonds (atoms) after the other, values before
// tangents.

#include <algorithm>
#include <cstdint>
#include <cub/device/device_scan.cuh>

#include "bonds_cuda.hpp"
#include "device.cuh"
#include "finite.cuh"
#include "sums.cuh"

namespace mlcore::cuda {
namespace {

using kernels::BondPlan;

constexpr double kSame = 1e-6;         // of the reach, by which both ends' vectors may differ
constexpr double kLeastSquare = 1e-4;  // A^2, below which lengths are taken as its root
constexpr int kMostShells = 4;
constexpr int kTogether = 8;  // functions of lengths contracted at once, in registers
constexpr unsigned long long kNowhere = ~0ull;

// -------------------------------------------------------------------------------------- numbers

/// A value and its derivative along the direction that is asked for.
struct Dual {
  double v = 0, t = 0;
};

__device__ Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.t + b.t}; }
__device__ Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.t - b.t}; }
__device__ Dual operator-(Dual a) { return {-a.v, -a.t}; }
__device__ Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.v * b.t + a.t * b.v}; }
__device__ Dual operator-(Dual a, double b) { return {a.v - b, a.t}; }
__device__ Dual operator-(double a, Dual b) { return {a - b.v, -b.t}; }
__device__ Dual operator*(Dual a, double b) { return {a.v * b, a.t * b}; }
__device__ Dual operator*(double a, Dual b) { return b * a; }
__device__ void operator+=(Dual& a, Dual b) { a = a + b; }
__device__ void operator-=(Dual& a, Dual b) { a = a - b; }

__device__ double value_of(double a) { return a; }
__device__ double value_of(Dual a) { return a.v; }
/// What is told of a result: its derivative, where there is one.
__device__ double told(double a) { return a; }
__device__ double told(Dual a) { return a.t; }

__device__ void set(double& a, double value) { a = value; }
__device__ void set(Dual& a, double value) { a = {value, 0}; }
template <class S>
__device__ S constant(double value) {
  S a{};
  set(a, value);
  return a;
}

__device__ double inverse_length(double square) { return 1 / sqrt(fmax(square, kLeastSquare)); }
__device__ Dual inverse_length(Dual square) {
  const double r = inverse_length(square.v);
  return {r, square.v > kLeastSquare ? -0.5 * r * r * r * square.t : 0.0};
}

/// Sine and cosine of pi / 2 times a number.
__device__ void turned(double a, double& sine, double& cosine) {
  sincospi(0.5 * a, &sine, &cosine);
}
__device__ void turned(Dual a, Dual& sine, Dual& cosine) {
  constexpr double kHalfPi = 1.57079632679489661923;
  turned(a.v, sine.v, cosine.v);
  sine.t = kHalfPi * cosine.v * a.t;
  cosine.t = -kHalfPi * sine.v * a.t;
}

// --------------------------------------------------------------------------------------- memory

/// (entries, 1 or 2, items)
struct Numbers {
  double* data;
  std::int64_t items;

  template <class S>
  __device__ S get(std::int64_t k, std::int64_t item) const {
    if constexpr (sizeof(S) == sizeof(Dual)) {
      return {data[2 * k * items + item], data[(2 * k + 1) * items + item]};
    } else {
      return data[k * items + item];
    }
  }
  __device__ void put(std::int64_t k, std::int64_t item, double value) const {
    data[k * items + item] = value;
  }
  __device__ void put(std::int64_t k, std::int64_t item, Dual value) const {
    data[2 * k * items + item] = value.v;
    data[(2 * k + 1) * items + item] = value.t;
  }
};

/// What is given, and memory of the evaluation; arrays as in kernels::BondJob.
struct Job {
  std::int64_t atoms, pairs, bonds;
  const std::int64_t* offsets;
  const std::int32_t* columns;
  const double* vectors;
  const double* displacements;
  const std::int32_t* species;
  const double* weights;
  const double* along;
  const double* middle;
  const double* coefficients;  // (species^2, chunks, terms, kTogether), filled up with 0
  // over pairs
  std::int32_t* kept;    // whether it is a bond
  std::int32_t* number;  // of bonds before it; one more
  std::int32_t* facing;  // the pair from its other end
  // over bonds
  std::int32_t *i, *j, *back;
  Numbers unit, length, shell, cosine, around, leaning, other, across, radial, energy;
  Numbers by_own, by_other, by_leaning, by_across, by_both, by_length, slope;
  // over atoms
  Numbers moments, beyond, by_moments, by_beyond;

  __device__ std::int32_t begin(std::int64_t atom) const { return number[offsets[atom]]; }
  __device__ std::int32_t end(std::int64_t atom) const { return number[offsets[atom + 1]]; }
  __device__ int kind(std::int64_t atom) const { return species ? species[atom] : 0; }
  __device__ double weight(std::int64_t bond) const { return weights ? weights[i[bond]] : 1.0; }
};

/// Where a sum that leans on a bond's direction stands, of a column and a monomial of degree > 0.
__device__ int leaning_of(const BondPlan& plan, int c, int e) {
  return c * (plan.monomials.first[plan.order] - 1) + e - 1;
}

__device__ std::int64_t thread_number() {
  return blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
}

template <class... Given, class... Arguments>
void start(void (*kernel)(Given...), std::int64_t threads, cudaStream_t stream,
           const Arguments&... arguments) {
  if (threads == 0) return;
  kernel<<<static_cast<unsigned>((threads + 127) / 128), 128, 0, stream>>>(arguments...);
  check(cudaGetLastError(), "start a kernel of bonds");
}

// ---------------------------------------------------------------------------------------- bonds

/// Notes the first atom whose species or neighbors are none.
__global__ void find_unsound(BondPlan plan, Job job, unsigned long long* first) {
  const std::int64_t i = thread_number();
  if (i >= job.atoms) return;
  const std::int64_t begin = job.offsets[i], end = job.offsets[i + 1];
  bool sound = begin >= 0 && begin <= end && end <= job.pairs && (i > 0 || begin == 0) &&
               (i + 1 < job.atoms || end == job.pairs) && job.kind(i) >= 0 &&
               job.kind(i) < plan.species;
  for (std::int64_t e = begin; sound && e < end; ++e) {
    sound = job.columns[e] >= 0 && job.columns[e] < job.atoms;
  }
  if (!sound) atomicMin(first, static_cast<unsigned long long>(i));
}

__device__ void vector_of(const Job& job, std::int64_t i, std::int64_t e, double (&d)[3]) {
  const std::int64_t j = job.columns[e];
  for (int k = 0; k < 3; ++k) {
    d[k] = job.vectors[3 * e + k];
    if (job.displacements) d[k] += job.displacements[3 * j + k] - job.displacements[3 * i + k];
  }
}

/// Rounded in one way wherever it is inlined, for both ends to agree.
__device__ double square_of(const double (&d)[3]) {
  return fma(d[0], d[0], fma(d[1], d[1], d[2] * d[2]));
}

__global__ void find_bonds(BondPlan plan, Job job, unsigned long long* unfaced) {
  const std::int64_t i = thread_number();
  if (i >= job.atoms) return;
  const double reach = plan.reach * plan.reach;
  for (std::int64_t e = job.offsets[i]; e < job.offsets[i + 1]; ++e) {
    double d[3], back[3], sum[3];
    vector_of(job, i, e, d);
    job.kept[e] = 0;
    if (!(square_of(d) < reach)) continue;
    const std::int64_t j = job.columns[e];
    int ends = 0;
    for (std::int64_t f = job.offsets[j]; f < job.offsets[j + 1]; ++f) {
      if (job.columns[f] != i || f == e) continue;
      vector_of(job, j, f, back);
      for (int k = 0; k < 3; ++k) sum[k] = d[k] + back[k];
      if (square_of(sum) > kSame * kSame * reach) continue;
      ++ends;
      job.facing[e] = static_cast<std::int32_t>(f);
      job.kept[e] = square_of(back) < reach;  // by rounding within the reach from one end only
    }
    if (ends != 1) atomicMin(unfaced, static_cast<unsigned long long>(e));
  }
}

/// Directions, lengths and weights.
template <class S>
__global__ void set_bonds(BondPlan plan, Job job) {
  const std::int64_t i = thread_number();
  if (i >= job.atoms) return;
  for (std::int64_t e = job.offsets[i]; e < job.offsets[i + 1]; ++e) {
    if (!job.kept[e]) continue;
    const std::int64_t b = job.number[e], j = job.columns[e];
    job.i[b] = static_cast<std::int32_t>(i);
    job.j[b] = static_cast<std::int32_t>(j);
    const std::int32_t f = job.facing[e];
    job.back[b] = job.number[f];
    double moved[3];
    vector_of(job, i, e, moved);
    S d[3];
    for (int k = 0; k < 3; ++k) {
      set(d[k], moved[k]);
      if constexpr (sizeof(S) == sizeof(Dual)) d[k].t = job.along[3 * j + k] - job.along[3 * i + k];
    }
    const S square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    const S inverse = inverse_length(square), part = square * inverse * (1 / plan.reach);
    for (int k = 0; k < 3; ++k) job.unit.put(k, b, d[k] * inverse);
    job.length.put(0, b, part);
    job.length.put(1, b, inverse);
    S power = part * part;
    power = power * power;
    for (int q = 0; q < plan.shells; ++q) {
      const S rest = value_of(power) < 1.0 ? 1.0 - power : S{};
      job.shell.put(q, b, rest * rest);
      power = power * power * power;
    }
  }
}

// ---------------------------------------------------------------------------------------- atoms

template <class S>
struct Direction {
  S x, y, z;
  __device__ Direction(const Job& job, std::int64_t bond)
      : x(job.unit.get<S>(0, bond)), y(job.unit.get<S>(1, bond)), z(job.unit.get<S>(2, bond)) {}
  __device__ S along(int axis) const { return axis == 0 ? x : axis == 1 ? y : z; }

  /// A monomial.
  __device__ S power(const BondPlan& plan, int e) const {
    S value = constant<S>(1.0);
    for (; e > 0; e = plan.monomials.less[e]) value = value * along(plan.monomials.axis[e]);
    return value;
  }
  /// And its slopes.
  __device__ S power(const BondPlan& plan, int e, S (&slope)[3]) const {
    S value = constant<S>(1.0);
    for (int k = 0; k < 3; ++k) slope[k] = S{};
    for (; e > 0; e = plan.monomials.less[e]) {
      const int axis = plan.monomials.axis[e];
      const S factor = along(axis);
      for (int k = 0; k < 3; ++k) slope[k] = slope[k] * factor + (k == axis ? value : S{});
      value = value * factor;
    }
    return value;
  }
};

/// One thread per entry of an atom.
template <class S>
__global__ void sum_moments(BondPlan plan, Job job) {
  const std::int64_t t = thread_number(), i = t % job.atoms;
  const int entry = static_cast<int>(t / job.atoms), count = plan.monomials.count;
  if (entry >= plan.columns * count) return;
  const int c = entry / count, e = entry % count;
  S sum{};
  for (std::int64_t b = job.begin(i); b < job.end(i); ++b) {
    if (job.kind(job.j[b]) != c / plan.shells) continue;
    sum += job.shell.get<S>(c % plan.shells, b) * Direction<S>(job, b).power(plan, e);
  }
  job.moments.put(entry, i, sum);
}

template <class S>
__global__ void sum_beyond(BondPlan plan, Job job) {
  const std::int64_t t = thread_number(), i = t % job.atoms;
  const int c = static_cast<int>(t / job.atoms);
  if (c >= plan.columns) return;
  const bool mine = job.kind(i) == c / plan.shells;
  S sum{};
  for (std::int64_t b = job.begin(i); b < job.end(i); ++b) {
    const S w = job.shell.get<S>(c % plan.shells, b);
    const S theirs = job.moments.get<S>(c * plan.monomials.count, job.j[b]);
    sum += w * (mine ? theirs - w : theirs);
  }
  job.beyond.put(c, i, sum);
}

// -------------------------------------------------------------------------------------- s of bonds

/// One thread per bond and column, as in those that follow.
template <class S>
__global__ void look_around(BondPlan plan, Job job) {
  const std::int64_t t = thread_number();
  const int c = static_cast<int>(t / job.bonds), columns = plan.columns;
  if (c >= columns) return;
  const std::int64_t b = t % job.bonds, i = job.i[b], j = job.j[b];
  const kernels::Monomials& m = plan.monomials;
  const int kind = c / plan.shells;
  const S w = job.shell.get<S>(c % plan.shells, b);
  const S own = job.kind(j) == kind ? w : S{}, left = job.kind(i) == kind ? w : S{};
  const Direction<S> u(job, b);
  job.around.put(c, b, job.moments.get<S>(c * m.count, i) - own - job.middle[c]);
  const S past = w * (job.moments.get<S>(c * m.count, j) - left);
  job.around.put(columns + c, b, job.beyond.get<S>(c, i) - past - job.middle[columns + c]);
  for (int l = 1; l <= plan.order; ++l) {
    S sum{};
    for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
      sum += m.factor[e] * (u.power(plan, e) * job.moments.get<S>(c * m.count + e, i));
    }
    job.cosine.put((l - 1) * columns + c, b, sum);
    const int k = (l + 1) * columns + c;
    job.around.put(k, b, sum - own - job.middle[k]);
  }
  for (int e = 1; e < m.first[plan.order]; ++e) {
    S sum = -(own * u.power(plan, e));
    for (int a = 0; a < 3; ++a) {
      sum += u.along(a) * job.moments.get<S>(c * m.count + m.more[e][a], i);
    }
    job.leaning.put(leaning_of(plan, c, e), b, sum);
  }
}

/// The same from the other end, and how the bonds of both ends are turned against each other.
template <class S>
__global__ void look_across(BondPlan plan, Job job) {
  const std::int64_t t = thread_number();
  const int c = static_cast<int>(t / job.bonds), columns = plan.columns;
  if (c >= columns) return;
  const std::int64_t b = t % job.bonds, back = job.back[b], i = job.i[b], j = job.j[b];
  const kernels::Monomials& m = plan.monomials;
  const int kind = c / plan.shells;
  for (int k = c; k < plan.seen; k += columns) job.other.put(k, b, job.around.get<S>(k, back));
  const S w = job.shell.get<S>(c % plan.shells, b);
  const S left = job.kind(i) == kind ? w : S{}, right = job.kind(j) == kind ? w : S{};
  for (int l = 1; l <= plan.order; ++l) {
    const int k = (l - 1) * columns + c;
    S every{};
    for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
      every += m.factor[e] *
               (job.moments.get<S>(c * m.count + e, i) * job.moments.get<S>(c * m.count + e, j));
    }
    const S shared = left * (job.cosine.get<S>(k, b) - right) + right * job.cosine.get<S>(k, back);
    job.across.put(k, b, l % 2 == 0 ? every - shared : every + shared);
  }
  for (int l = 1; l < plan.order; ++l) {
    S sum{};
    for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
      const int k = leaning_of(plan, c, e);
      sum += m.factor[e] * (job.leaning.get<S>(k, b) * job.leaning.get<S>(k, back));
    }
    job.across.put((plan.order + l - 1) * columns + c, b, sum);
  }
}

// ------------------------------------------------------------------------------------- energies

/// Functions of a length and their slopes by r / R, some at a time.
template <class S>
class Radial {
 public:
  __device__ Radial(const S& part) : part_(part) {
    S sine, cosine;
    turned(value_of(part) < 1.0 ? part : constant<S>(1.0), sine, cosine);
    one_ = 1.0 - 2.0 * (sine * sine);
    const S square = 1.0 - part * part;
    const S inside = value_of(square) > 0.0 ? square : S{};
    rim_ = inside * inside;
    whole_ = rim_ * inside;
    c_ = constant<S>(1.0);
    before_ = one_;
    past_ = -(2.0 * (sine * cosine));
  }

  /// The next of them; 0 beyond `count`.
  template <bool kSlopes>
  __device__ void next(int count, S (&value)[kTogether], S (&slope)[kTogether]) {
#pragma unroll
    for (int a = 0; a < kTogether; ++a, ++passed_) {
      const bool there = passed_ < count;
      value[a] = there ? c_ * whole_ : S{};
      if constexpr (kSlopes) {
        constexpr double kPi = 3.14159265358979323846;
        slope[a] = there ? -(kPi * passed_) * (s_ * whole_) - 6.0 * (part_ * (rim_ * c_)) : S{};
      }
      const S next = 2.0 * (one_ * c_) - before_, ahead = 2.0 * (one_ * s_) - past_;
      before_ = c_;
      past_ = s_;
      c_ = next;
      s_ = ahead;
    }
  }

 private:
  S part_, one_, rim_, whole_;
  S c_, s_{}, before_, past_;  // cosines and sines of a and a - 1 times
  int passed_ = 0;
};

/// C contracted with some functions of lengths, term by term.
template <class S, bool kGradient>
struct Contraction {
  const double* coefficients;
  double weight;
  S t[kTogether], slope[kTogether], by_t[kTogether];

  /// Weight times sum_a t_a C_a of a term; m is what it is multiplied by.
  __device__ S term(int x, const S& m) {
    const double* c = coefficients + x * kTogether;
    S sum{};
#pragma unroll
    for (int a = 0; a < kTogether; ++a) {
      if constexpr (kGradient) sum += c[a] * t[a];
      by_t[a] += c[a] * m;
    }
    return sum * weight;
  }
};

__device__ void grow(const Numbers& array, std::int64_t k, std::int64_t bond, double by) {
  array.put(k, bond, array.get<double>(k, bond) + by);
}
__device__ void grow(const Numbers& array, std::int64_t k, std::int64_t bond, Dual by) {
  array.put(k, bond, array.get<Dual>(k, bond) + by);
}

template <class S, bool kGradient>
__device__ void contract(const BondPlan& plan, const Job& job, std::int64_t b,
                         Contraction<S, kGradient>& made) {
  const int seen = plan.seen, pairs = seen * (seen + 1) / 2;
  made.term(0, constant<S>(1.0));
  for (int k = 0; k < seen; ++k) {
    const S slope = made.term(1 + k, job.around.get<S>(k, b));
    if constexpr (kGradient) grow(job.by_own, k, b, slope);
  }
  int x = 1 + seen;
  for (int a = 0; a < seen; ++a) {
    const S own = job.around.get<S>(a, b);
    S sum{};
    for (int c = a; c < seen; ++c, ++x) {
      const S mine = job.around.get<S>(c, b), theirs = job.other.get<S>(c, b);
      const S one = made.term(x, own * mine), two = made.term(x + pairs, own * theirs);
      if constexpr (!kGradient) continue;
      sum += one * mine + two * theirs;
      grow(job.by_own, c, b, one * own);
      grow(job.by_other, c, b, two * own);
    }
    if constexpr (kGradient) grow(job.by_own, a, b, sum);
  }
  for (int k = 0; k < plan.across; ++k) {
    const S slope = made.term(1 + seen + 2 * pairs + k, job.across.get<S>(k, b));
    if constexpr (kGradient) grow(job.by_across, k, b, slope);
  }
}

template <class S, bool kGradient>
__global__ void find_energies(BondPlan plan, Job job) {
  const std::int64_t b = thread_number();
  if (b >= job.bonds) return;
  const int chunks = (plan.radial + kTogether - 1) / kTogether;
  const int kind = job.kind(job.i[b]) * plan.species + job.kind(job.j[b]);
  Radial<S> radial(job.length.get<S>(0, b));
  if constexpr (kGradient) {
    for (int k = 0; k < plan.seen; ++k) job.by_own.put(k, b, S{});
    for (int k = 0; k < plan.seen; ++k) job.by_other.put(k, b, S{});
    for (int k = 0; k < plan.across; ++k) job.by_across.put(k, b, S{});
  }
  S energy{}, by_length{};
  for (int chunk = 0; chunk < chunks; ++chunk) {
    Contraction<S, kGradient> made{};
    made.coefficients = job.coefficients +
                        (static_cast<std::int64_t>(kind) * chunks + chunk) * plan.terms * kTogether;
    made.weight = job.weight(b);
    radial.template next<kGradient>(plan.radial, made.t, made.slope);
    contract(plan, job, b, made);
#pragma unroll
    for (int a = 0; a < kTogether; ++a) {
      energy += made.t[a] * made.by_t[a];
      if constexpr (kGradient) by_length += made.slope[a] * made.by_t[a];
      const int place = chunk * kTogether + a;
      if (job.radial.data && place < plan.radial) job.radial.put(place, b, made.t[a]);
    }
  }
  job.energy.put(0, b, energy);
  if constexpr (kGradient) job.by_length.put(0, b, by_length * job.weight(b));
}

template <class S>
__global__ void tell_energies(Job job, double* energies) {
  const std::int64_t i = thread_number();
  if (i >= job.atoms) return;
  double sum = 0;
  for (std::int64_t b = job.begin(i); b < job.end(i); ++b) sum += told(job.energy.get<S>(0, b));
  energies[i] = sum;
}

// -------------------------------------------------------------------------------- coefficients

/// The numbers that a term of m is a product of.
struct Term {
  enum { one, own, own_own, own_other, across } kind;
  int a = 0, b = 0;

  __device__ Term(const BondPlan& plan, int x) {
    const int seen = plan.seen, pairs = seen * (seen + 1) / 2;
    if (x == 0) {
      kind = one;
    } else if (x <= seen) {
      kind = own;
      a = x - 1;
    } else if (x > seen + 2 * pairs) {
      kind = across;
      a = x - 1 - seen - 2 * pairs;
    } else {
      const int place = x - 1 - seen;
      kind = place < pairs ? own_own : own_other;
      int left = place % pairs;
      while (left >= seen - a) left -= seen - a++;
      b = a + left;
    }
  }

  template <class S>
  __device__ S of(const Job& job, std::int64_t bond) const {
    if (kind == one) return constant<S>(1.0);
    if (kind == across) return job.across.get<S>(a, bond);
    const S left = job.around.get<S>(a, bond);
    if (kind == own) return left;
    return left * (kind == own_own ? job.around : job.other).template get<S>(b, bond);
  }
};

/// sums (chunks.count, rows, columns) over chunks.size bonds each, in their order.
template <class S>
__global__ void sum_coefficients(BondPlan plan, Job job, Chunks chunks, double* sums) {
  const std::int64_t t = thread_number();
  const std::int64_t size =
      static_cast<std::int64_t>(plan.species) * plan.species * plan.radial * plan.terms;
  if (t >= chunks.count * size) return;
  const std::int64_t begin = t / size * chunks.size, row = t % size / plan.terms;
  const std::int64_t end = begin + chunks.size < job.bonds ? begin + chunks.size : job.bonds;
  const int kind = static_cast<int>(row / plan.radial), a = static_cast<int>(row % plan.radial);
  const Term term(plan, static_cast<int>(t % plan.terms));
  double sum = 0;
  for (std::int64_t b = begin; b < end; ++b) {
    if (job.kind(job.i[b]) * plan.species + job.kind(job.j[b]) != kind) continue;
    sum += job.weight(b) * told(job.radial.get<S>(a, b) * term.of<S>(job, b));
  }
  sums[t] = sum;
}

// --------------------------------------------------------------------------------------- slopes

/// Adds what the other end says; what is left of slopes by cosines are those by all bonds of i.
template <class S>
__global__ void gather(BondPlan plan, Job job) {
  const std::int64_t t = thread_number();
  const int c = static_cast<int>(t / job.bonds), columns = plan.columns;
  if (c >= columns) return;
  const std::int64_t b = t % job.bonds, back = job.back[b];
  const bool mine = job.kind(job.i[b]) == c / plan.shells;
  const S w = mine ? job.shell.get<S>(c % plan.shells, b) : S{};
  for (int k = c; k < plan.seen; k += columns) grow(job.by_own, k, b, job.by_other.get<S>(k, back));
  for (int l = 1; l <= plan.order; ++l) {
    const int k = (l - 1) * columns + c;
    const S both = job.by_across.get<S>(k, b) + job.by_across.get<S>(k, back);
    job.by_both.put(k, b, both);
    grow(job.by_own, 2 * columns + k, b, l % 2 == 0 ? -(both * w) : both * w);
  }
  const kernels::Monomials& m = plan.monomials;
  for (int l = 1; l < plan.order; ++l) {
    const int k = (plan.order + l - 1) * columns + c;
    const S both = job.by_across.get<S>(k, b) + job.by_across.get<S>(k, back);
    for (int e = m.first[l]; e < m.first[l + 1]; ++e) {
      const int place = leaning_of(plan, c, e);
      job.by_leaning.put(place, b, m.factor[e] * (both * job.leaning.get<S>(place, back)));
    }
  }
}

template <class S>
__global__ void sum_by_beyond(BondPlan plan, Job job) {
  const std::int64_t t = thread_number(), i = t % job.atoms;
  const int c = static_cast<int>(t / job.atoms);
  if (c >= plan.columns) return;
  S sum{};
  for (std::int64_t b = job.begin(i); b < job.end(i); ++b) {
    sum += job.by_own.get<S>(plan.columns + c, b);
  }
  job.by_beyond.put(c, i, sum);
}

__device__ int degree_of(const kernels::Monomials& m, int e) {
  int degree = 0;
  while (e >= m.first[degree + 1]) ++degree;
  return degree;
}

/// What the sums that lean on bonds of an atom add to the slope by one of its moments.
template <class S>
__device__ S by_leaning_of(const BondPlan& plan, const Job& job, std::int64_t i, int c, int e) {
  const kernels::Monomials& m = plan.monomials;
  S sum{};
  for (int less = 1; less < m.first[plan.order]; ++less) {
    for (int a = 0; a < 3; ++a) {
      if (m.more[less][a] != e) continue;
      const int k = leaning_of(plan, c, less);
      for (std::int64_t b = job.begin(i); b < job.end(i); ++b) {
        sum += job.by_leaning.get<S>(k, b) * job.unit.get<S>(a, b);
      }
    }
  }
  return sum;
}

template <class S>
__global__ void sum_by_moments(BondPlan plan, Job job) {
  const std::int64_t t = thread_number(), i = t % job.atoms;
  const kernels::Monomials& m = plan.monomials;
  const int entry = static_cast<int>(t / job.atoms), columns = plan.columns;
  if (entry >= columns * m.count) return;
  const int c = entry / m.count, e = entry % m.count, l = degree_of(m, e);
  const int k = (l - 1) * columns + c;
  S sum{};
  for (std::int64_t b = job.begin(i); b < job.end(i); ++b) {
    if (l == 0) {
      const S there = job.by_own.get<S>(columns + c, job.back[b]);
      const S past = job.by_beyond.get<S>(c, job.j[b]) - there;
      sum += job.by_own.get<S>(c, b) + past * job.shell.get<S>(c % plan.shells, b);
    } else {
      sum += job.by_own.get<S>(2 * columns + k, b) * Direction<S>(job, b).power(plan, e) +
             job.by_both.get<S>(k, b) * job.moments.get<S>(entry, job.j[b]);
    }
  }
  job.by_moments.put(entry, i, sum * m.factor[e] + by_leaning_of<S>(plan, job, i, c, e));
}

/// Slopes of a bond by its own weights and direction.
template <class S>
struct BondSlopes {
  S by_shell[kMostShells] = {}, by_unit[3] = {};

  __device__ BondSlopes(const BondPlan& plan, const Job& job, std::int64_t b) {
    for (int c = 0; c < plan.columns; ++c) add_column(plan, job, b, c);
    const Direction<S> u(job, b);
    for (int l = 1; l <= plan.order; ++l) {
      for (int e = plan.monomials.first[l]; e < plan.monomials.first[l + 1]; ++e) {
        add_monomial(plan, job, b, u, l, e);
      }
    }
  }

 private:
  /// As one of the bonds of i, and as the one whose end is looked from.
  __device__ void add_column(const BondPlan& plan, const Job& job, std::int64_t b, int c) {
    const std::int64_t i = job.i[b], j = job.j[b], back = job.back[b];
    const int q = c % plan.shells, kind = c / plan.shells, columns = plan.columns;
    const int first = c * plan.monomials.count;
    const bool from = job.kind(i) == kind, to = job.kind(j) == kind;
    const S w = job.shell.get<S>(q, b), left = from ? w : S{}, right = to ? w : S{};
    S one = job.by_moments.get<S>(first, i) - job.by_own.get<S>(c, b), two{};
    const S past = job.by_beyond.get<S>(c, i) - job.by_own.get<S>(columns + c, b);
    by_shell[q] += past * (job.moments.get<S>(first, j) - left);
    two -= past * w;
    for (int l = 1; l <= plan.order; ++l) {
      const int k = (l - 1) * columns + c;
      const S across = job.by_across.get<S>(k, b), sign = l % 2 == 0 ? across : -across;
      const S shared = job.by_both.get<S>(k, b) * left;
      one -= job.by_own.get<S>(2 * columns + k, b) + (l % 2 == 0 ? shared : -shared);
      one += sign * (left - job.cosine.get<S>(k, back));
      two -= sign * (job.cosine.get<S>(k, b) - right);
    }
    if (to) by_shell[q] += one;
    if (from) by_shell[q] += two;
  }

  __device__ void add_monomial(const BondPlan& plan, const Job& job, std::int64_t b,
                               const Direction<S>& u, int l, int e) {
    const std::int64_t i = job.i[b], j = job.j[b];
    S slope[3], by{};
    const S power = u.power(plan, e, slope);
    for (int c = 0; c < plan.columns; ++c) {
      const int q = c % plan.shells, entry = c * plan.monomials.count + e;
      const S own = job.by_own.get<S>((l + 1) * plan.columns + c, b);
      const S leaning = l < plan.order ? add_leaning(plan, job, b, c, e) : S{};
      by += plan.monomials.factor[e] * (own * job.moments.get<S>(entry, i));
      if (job.kind(j) != c / plan.shells) continue;
      const S by_moment = job.by_moments.get<S>(entry, i) - leaning;
      by += job.shell.get<S>(q, b) * by_moment;
      by_shell[q] += by_moment * power;
    }
    for (int k = 0; k < 3; ++k) by_unit[k] += by * slope[k];
  }

  /// As the bond that others lean on; returns the slope by a sum of theirs.
  __device__ S add_leaning(const BondPlan& plan, const Job& job, std::int64_t b, int c, int e) {
    const kernels::Monomials& m = plan.monomials;
    const S by = job.by_leaning.get<S>(leaning_of(plan, c, e), b);
    for (int a = 0; a < 3; ++a) {
      by_unit[a] += by * job.moments.get<S>(c * m.count + m.more[e][a], job.i[b]);
    }
    return by;
  }
};

template <class S>
__global__ void find_slopes(BondPlan plan, Job job) {
  const std::int64_t b = thread_number();
  if (b >= job.bonds) return;
  const BondSlopes<S> by(plan, job, b);
  const Direction<S> u(job, b);
  const S part = job.length.get<S>(0, b), inverse = job.length.get<S>(1, b);
  S by_part = job.by_length.get<S>(0, b);
  S low = part * part * part, power = low * part;  // p^(e - 1), p^e
  double exponent = 4;
  for (int q = 0; q < plan.shells; ++q) {
    const S inside = value_of(power) < 1.0 ? 1.0 - power : S{};
    by_part -= (2 * exponent) * (by.by_shell[q] * (low * inside));
    low = low * (power * power);
    power = power * power * power;
    exponent *= 3;
  }
  const S dot = by.by_unit[0] * u.x + by.by_unit[1] * u.y + by.by_unit[2] * u.z;
  const S pull = by_part * (1 / plan.reach);
  // so short that its inverse is taken as constant
  const bool tiny = value_of(inverse) * value_of(inverse) * kLeastSquare > 1 - 1e-14;
  for (int k = 0; k < 3; ++k) {
    const S usual = inverse * (by.by_unit[k] - u.along(k) * dot) + u.along(k) * pull;
    const S close = inverse * by.by_unit[k] + 2.0 * (u.along(k) * pull);
    job.slope.put(k, b, tiny ? close : usual);
  }
}

template <class S>
__global__ void tell_slopes(Job job, double* by_displacements) {
  const std::int64_t i = thread_number();
  if (i >= job.atoms) return;
  double sum[3] = {};
  for (std::int64_t b = job.begin(i); b < job.end(i); ++b) {
    for (int k = 0; k < 3; ++k) {
      sum[k] += told(job.slope.get<S>(k, job.back[b])) - told(job.slope.get<S>(k, b));
    }
  }
  for (int k = 0; k < 3; ++k) by_displacements[3 * i + k] = sum[k];
}

// ------------------------------------------------------------------------------------------- run

/// Functions of lengths of a term beside each other, kTogether at a time.
__global__ void pack(BondPlan plan, const double* coefficients, double* packed) {
  const std::int64_t t = thread_number();
  const int chunks = (plan.radial + kTogether - 1) / kTogether;
  const std::int64_t row = t / kTogether, block = row / plan.terms;
  if (block >= static_cast<std::int64_t>(plan.species) * plan.species * chunks) return;
  const int a = static_cast<int>(block % chunks) * kTogether + static_cast<int>(t % kTogether);
  packed[t] = a < plan.radial
                  ? coefficients[(block / chunks * plan.radial + a) * plan.terms + row % plan.terms]
                  : 0.0;
}

class Evaluation {
 public:
  Evaluation(const BondPlan& plan, View<const double, 2> coefficients, View<const double, 1> middle,
             const BondRows& rows, const BondDirections& directions, const BondResults& results,
             cudaStream_t stream)
      : plan_(plan),
        results_(results),
        stream_(stream),
        chunks_((plan.radial + kTogether - 1) / kTogether),
        packed_(std::int64_t{plan.species} * plan.species * chunks_ * plan.terms * kTogether,
                stream),
        of_pairs_(3 * rows.columns.shape[0] + 2, stream) {
    const std::int64_t pairs = rows.columns.shape[0];
    job_.atoms = rows.offsets.shape[0] - 1;
    job_.pairs = pairs;
    job_.offsets = rows.offsets.data;
    job_.columns = rows.columns.data;
    job_.vectors = rows.vectors.data;
    job_.displacements = rows.displacements.data;
    job_.species = rows.species.data;
    job_.weights = directions.weights.data;
    job_.along = directions.along.data;
    job_.middle = middle.data;
    job_.coefficients = packed_.get();
    job_.kept = of_pairs_.get();
    job_.number = job_.kept + pairs + 1;
    job_.facing = job_.number + pairs + 1;
    start(pack, std::int64_t{plan.species} * plan.species * chunks_ * plan.terms * kTogether,
          stream, plan, coefficients.data, packed_.get());
  }

  void run() {
    check_rows();
    find();
    const Scratch<std::int32_t> of_bonds(3 * job_.bonds, stream_);
    job_.i = of_bonds.get();
    job_.j = job_.i + job_.bonds;
    job_.back = job_.j + job_.bonds;
    job_.along ? run_as<Dual>() : run_as<double>();
  }

 private:
  void check_rows() {
    const Scratch<unsigned long long> first(&kNowhere, 1, stream_);
    start(find_unsound, job_.atoms, stream_, plan_, job_, first.get());
    const auto found = read(first.get());
    MLCORE_CHECK(found == kNowhere,
                 "offsets must grow from 0 to the number of columns, columns be numbers of atoms "
                 "and species lie in 0..",
                 plan_.species - 1, ", but row ", found, " breaks that");
  }

  /// Numbers the pairs that are closer than the reach.
  void find() {
    const Scratch<unsigned long long> unfaced(&kNowhere, 1, stream_);
    check(cudaMemsetAsync(job_.kept, 0, (job_.pairs + 1) * sizeof(std::int32_t), stream_), "clear");
    start(find_bonds, job_.atoms, stream_, plan_, job_, unfaced.get());
    std::size_t bytes = 0;
    const auto count = static_cast<int>(job_.pairs + 1);
    const auto add_up = [&](void* memory) {
      check(cub::DeviceScan::ExclusiveSum(memory, bytes, job_.kept, job_.number, count, stream_),
            "number bonds");
    };
    add_up(nullptr);
    const Scratch<char> memory(std::max<std::size_t>(bytes, 1), stream_);
    add_up(memory.get());
    const auto found = read(unfaced.get());
    MLCORE_CHECK(
        found == kNowhere,
        "columns must hold every pair closer than the reach from both ends, once, but entry ",
        found, " is there from the other not once");
    job_.bonds = read(job_.number + job_.pairs);
  }

  template <class T>
  T read(const T* there) {
    T value;
    check(cudaMemcpyAsync(&value, there, sizeof(T), cudaMemcpyDeviceToHost, stream_),
          "copy from the device");
    check(cudaStreamSynchronize(stream_), "find bonds");
    return value;
  }

  template <class S>
  void run_as() {
    const Scratch<double> memory(share(nullptr, sizeof(S) / sizeof(double)), stream_);
    share(memory.get(), sizeof(S) / sizeof(double));
    const std::int64_t entries = std::int64_t{plan_.columns} * plan_.monomials.count;
    over(set_bonds<S>, job_.atoms);
    over(sum_moments<S>, job_.atoms * entries);
    over(sum_beyond<S>, job_.atoms * plan_.columns);
    over(look_around<S>, job_.bonds * plan_.columns);
    over(look_across<S>, job_.bonds * plan_.columns);
    const bool slopes = results_.by_displacements.data != nullptr;
    slopes ? over(find_energies<S, true>, job_.bonds) : over(find_energies<S, false>, job_.bonds);
    if (results_.energies.data) {
      start(tell_energies<S>, job_.atoms, stream_, job_, results_.energies.data);
    }
    if (results_.by_coefficients.data) grow_coefficients<S>();
    if (!slopes) return;
    over(gather<S>, job_.bonds * plan_.columns);
    over(sum_by_beyond<S>, job_.atoms * plan_.columns);
    over(sum_by_moments<S>, job_.atoms * entries);
    over(find_slopes<S>, job_.bonds);
    start(tell_slopes<S>, job_.atoms, stream_, job_, results_.by_displacements.data);
  }

  void over(void (*kernel)(BondPlan, Job), std::int64_t threads) {
    start(kernel, threads, stream_, plan_, job_);
  }

  template <class S>
  void grow_coefficients() {
    const std::int64_t size = results_.by_coefficients.size();
    const Chunks chunks(size, job_.bonds);
    const Scratch<double> sums(chunks.count * size, stream_);
    start(sum_coefficients<S>, chunks.count * size, stream_, plan_, job_, chunks, sums.get());
    sum_rows(sums.get(), chunks.count, size, false, results_.by_coefficients.data, stream_);
  }

  /// Gives every array its place in the memory; returns how many numbers they need.
  std::int64_t share(double* memory, int parts) {
    const int turns = plan_.order * plan_.columns, seen = plan_.seen;
    const int entries = plan_.columns * plan_.monomials.count;
    const bool slopes = results_.by_displacements.data != nullptr;
    const std::int64_t bonds = job_.bonds, atoms = job_.atoms;
    const struct {
      Numbers* to;
      std::int64_t items;
      int entries;
      bool wanted = true;
    } arrays[] = {
        {&job_.unit, bonds, 3},
        {&job_.length, bonds, 2},
        {&job_.shell, bonds, plan_.shells},
        {&job_.cosine, bonds, turns},
        {&job_.around, bonds, seen},
        {&job_.leaning, bonds, plan_.leaning},
        {&job_.other, bonds, seen},
        {&job_.across, bonds, plan_.across},
        {&job_.radial, bonds, plan_.radial, results_.by_coefficients.data != nullptr},
        {&job_.energy, bonds, 1},
        {&job_.by_own, bonds, seen, slopes},
        {&job_.by_other, bonds, seen, slopes},
        {&job_.by_leaning, bonds, plan_.leaning, slopes},
        {&job_.by_across, bonds, plan_.across, slopes},
        {&job_.by_both, bonds, turns, slopes},
        {&job_.by_length, bonds, 1, slopes},
        {&job_.slope, bonds, 3, slopes},
        {&job_.moments, atoms, entries},
        {&job_.beyond, atoms, plan_.columns},
        {&job_.by_moments, atoms, entries, slopes},
        {&job_.by_beyond, atoms, plan_.columns, slopes},
    };
    std::int64_t total = 0;
    for (const auto& array : arrays) {
      *array.to = {memory && array.wanted ? memory + total : nullptr, array.items};
      if (array.wanted) total += array.items * array.entries * parts;
    }
    return total;
  }

  BondPlan plan_;
  const BondResults& results_;
  cudaStream_t stream_;
  int chunks_;
  Job job_{};
  Scratch<double> packed_;
  Scratch<std::int32_t> of_pairs_;
};

/// Looks at all arrays before it waits once.
void check_values(View<const double, 2> coefficients, View<const double, 1> middle,
                  const BondRows& rows, const BondDirections& directions, cudaStream_t stream) {
  const struct {
    const char* name;
    const double* data;
    std::int64_t count;
  } arrays[] = {
      {"coefficients", coefficients.data, coefficients.size()},
      {"middle", middle.data, middle.size()},
      {"vectors", rows.vectors.data, rows.vectors.size()},
      {"displacements", rows.displacements.data, rows.displacements.size()},
      {"weights", directions.weights.data, directions.weights.size()},
      {"along", directions.along.data, directions.along.size()},
  };
  constexpr int kArrays = sizeof(arrays) / sizeof(*arrays);
  unsigned long long found[kArrays];
  std::fill(found, found + kArrays, kNowhere);
  const Scratch<unsigned long long> first(found, kArrays, stream);
  for (int k = 0; k < kArrays; ++k) {
    if (arrays[k].data) {
      look_for_not_finite(arrays[k].data, arrays[k].count, first.get() + k, stream);
    }
  }
  check(cudaMemcpyAsync(found, first.get(), sizeof(found), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "check numbers");
  for (int k = 0; k < kArrays; ++k) {
    MLCORE_CHECK(found[k] == kNowhere, arrays[k].name, " must be finite, but entry ", found[k],
                 " (counted along the flattened array) is not");
  }
}

}  // namespace

void evaluate_bonds(const Context& context, const BondPlan& plan,
                    View<const double, 2> coefficients, View<const double, 1> middle,
                    const BondRows& rows, const BondDirections& directions,
                    const BondResults& results) {
  const CurrentDevice current(device_of("coefficients", coefficients.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  check_values(coefficients, middle, rows, directions, stream);
  Evaluation(plan, coefficients, middle, rows, directions, results, stream).run();
}

}  // namespace mlcore::cuda
