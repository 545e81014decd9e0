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
using kernels::kLeastSine;
using kernels::kLeastSquare;
using kernels::kMostPowers;

constexpr double kSame = 1e-6;  // of the reach, by which both ends' vectors may differ
constexpr int kTogether = 5;    // functions of lengths contracted at once, in registers
constexpr unsigned long long kNowhere = ~0ull;

// -------------------------------------------------------------------------------------- numbers

/// A value and its derivative along the direction that is asked for.
struct Dual {
  double v = 0, t = 0;
};

__device__ Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.t + b.t}; }
__device__ Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.t - b.t}; }
__device__ Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.v * b.t + a.t * b.v}; }
__device__ Dual operator+(Dual a, double b) { return {a.v + b, a.t}; }
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

__device__ double exponential(double a) { return exp(a); }
__device__ Dual exponential(Dual a) {
  const double value = exp(a.v);
  return {value, value * a.t};
}

constexpr double kHalfPi = 1.57079632679489661923;

/// Sine and cosine of pi / 2 times a number.
__device__ void turned(double a, double& sine, double& cosine) {
  sincospi(0.5 * a, &sine, &cosine);
}
__device__ void turned(Dual a, Dual& sine, Dual& cosine) {
  turned(a.v, sine.v, cosine.v);
  sine.t = kHalfPi * cosine.v * a.t;
  cosine.t = -kHalfPi * sine.v * a.t;
}

template <class S>
__device__ S dot(const S (&a)[3], const S (&b)[3]) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
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

template <class S>
__device__ void grow(const Numbers& array, std::int64_t k, std::int64_t item, S by) {
  array.put(k, item, array.get<S>(k, item) + by);
}

/// What is given, and memory of the evaluation; arrays as in kernels::BondJob, but s_ij, s_ji and d
/// are one array of factors.
struct Job {
  std::int64_t atoms, pairs, bonds;
  const std::int64_t* offsets;
  const std::int32_t* columns;
  const double* vectors;
  const double* displacements;
  const std::int32_t* species;
  const double* weights;
  const double* along;
  const double* coefficients;  // (species^2, chunks, terms, kTogether), filled up with 0
  // over pairs
  std::int32_t* kept;    // whether it is a bond
  std::int32_t* number;  // of bonds before it; one more
  std::int32_t* facing;  // the pair from its other end
  // over bonds
  std::int32_t *i, *j, *back;
  Numbers unit, length, counted, factors, radial, energy;
  Numbers by_factors, by_both, by_length, by_turned, slope;
  // over others
  std::int64_t* others;  // (atoms + 1,) of those before the atom's
  Numbers by_others;
  // over atoms
  Numbers count, beyond, by_beyond, by_count;

  __device__ std::int32_t begin(std::int64_t atom) const { return number[offsets[atom]]; }
  __device__ std::int32_t end(std::int64_t atom) const { return number[offsets[atom + 1]]; }
  __device__ int kind(std::int64_t atom) const { return species ? species[atom] : 0; }
  __device__ double weight(std::int64_t bond) const { return weights ? weights[i[bond]] : 1.0; }

  /// What a bond asks of another one of its atom stands here.
  __device__ std::int64_t other(std::int32_t asking, std::int32_t asked) const {
    const std::int64_t atom = i[asking], first = begin(atom), count = end(atom) - first;
    return others[atom] + (asking - first) * (count - 1) + (asked - first - (asked > asking));
  }

  template <class S>
  __device__ S w(std::int64_t bond) const {
    return counted.get<S>(0, bond);
  }
  template <class S>
  __device__ void direction(std::int64_t bond, S (&u)[3]) const {
    for (int k = 0; k < 3; ++k) u[k] = unit.get<S>(k, bond);
  }
  /// Of a product: 0 is 1.
  template <class S>
  __device__ S factor(int f, std::int64_t bond) const {
    return f > 0 ? factors.get<S>(f - 1, bond) : constant<S>(1.0);
  }
};

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

/// Ordered pairs of bonds of each atom; 0 beyond the last.
__global__ void count_others(Job job) {
  const std::int64_t i = thread_number();
  if (i > job.atoms) return;
  const std::int64_t count = i < job.atoms ? job.end(i) - job.begin(i) : 0;
  job.others[i] = count * (count - 1);
}

template <class S>
__device__ void set_weight(const BondPlan& plan, const Job& job, std::int64_t b, const S& part) {
  const double begin = plan.inner / plan.reach, width = 1 - begin;
  const bool inside = value_of(part) < 1.0, falling = inside && value_of(part) > begin;
  S sine, cosine;
  turned(falling ? (part - begin) * (1 / width) : S{}, sine, cosine);
  job.counted.put(0, b, inside ? cosine * cosine : S{});
  job.counted.put(1, b, falling ? (-2 * kHalfPi / width) * (sine * cosine) : S{});
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
    job.back[b] = job.number[job.facing[e]];
    double moved[3];
    vector_of(job, i, e, moved);
    S d[3];
    for (int k = 0; k < 3; ++k) {
      set(d[k], moved[k]);
      if constexpr (sizeof(S) == sizeof(Dual)) d[k].t = job.along[3 * j + k] - job.along[3 * i + k];
    }
    const S square = dot(d, d), inverse = inverse_length(square);
    const S part = square * inverse * (1 / plan.reach);
    for (int k = 0; k < 3; ++k) job.unit.put(k, b, d[k] * inverse);
    job.length.put(0, b, part);
    job.length.put(1, b, inverse);
    set_weight(plan, job, b, part);
  }
}

// ---------------------------------------------------------------------------------------- atoms

/// Sums over the bonds of atoms. One thread per atom and species.
template <class S, S (*kOf)(const BondPlan&, const Job&, std::int64_t, int)>
__global__ void sum_over(BondPlan plan, Job job, Numbers sums) {
  const std::int64_t t = thread_number(), i = t % job.atoms;
  const int c = static_cast<int>(t / job.atoms);
  if (c >= plan.species) return;
  S sum{};
  for (std::int32_t b = job.begin(i), end = job.end(i); b < end; ++b) sum += kOf(plan, job, b, c);
  sums.put(c, i, sum);
}

template <class S>
__device__ S counted(const BondPlan&, const Job& job, std::int64_t b, int c) {
  return job.kind(job.j[b]) == c ? job.w<S>(b) : S{};
}

/// w times those of the bonds beyond.
template <class S>
__device__ S ahead(const BondPlan&, const Job& job, std::int64_t b, int c) {
  const S w = job.w<S>(b), theirs = job.count.get<S>(c, job.j[b]);
  return w * (job.kind(job.i[b]) == c ? theirs - w : theirs);
}

// -------------------------------------------------------------------------------- factors of bonds

/// Another bond of an end of an axis, and its angle with it; `sign` -1: of the far end. The inverse
/// is 1 / the root of the squared sine, the slope its own by the cosine.
template <class S>
struct Other {
  S unit[3], weight, cosine, inverse, slope;

  __device__ Other(const Job& job, std::int64_t bond, const S (&axis)[3], double sign)
      : weight(job.w<S>(bond)) {
    job.direction(bond, unit);
    cosine = sign * dot(unit, axis);
    const S square = 1.0 - cosine * cosine;
    const bool low = value_of(square) < kLeastSine;
    const S raised = (0.5 / kLeastSine) * (square * square) + 0.5 * kLeastSine;
    const S by = low ? square * (1 / kLeastSine) : constant<S>(1.0);
    inverse = inverse_length(low ? raised : square);
    slope = cosine * by * (inverse * inverse * inverse);
  }

  __device__ S past(double knot) const { return value_of(cosine) > knot ? cosine - knot : S{}; }
};

/// Adds w times the first powers of a cosine.
template <class S>
__device__ void add_powers(S power, const S& cosine, int count, S (&sums)[kMostPowers]) {
#pragma unroll
  for (int l = 0; l < kMostPowers; ++l) {
    if (l >= count) break;
    power = power * cosine;
    sums[l] += power;
  }
}

/// s_ij. One thread per bond and species, as in those that follow.
template <class S>
__global__ void look_around(BondPlan plan, Job job) {
  const std::int64_t t = thread_number(), b = t % job.bonds;
  const int c = static_cast<int>(t / job.bonds), kinds = plan.species;
  if (c >= kinds) return;
  const std::int64_t i = job.i[b];
  S axis[3], sums[kMostPowers] = {}, knotted{};
  job.direction(b, axis);
  for (std::int32_t e = job.begin(i), end = job.end(i); e < end; ++e) {
    if (e == b || job.kind(job.j[e]) != c) continue;
    const Other<S> other(job, e, axis, 1.0);
    const S bent = other.past(plan.knot);
    knotted += other.weight * (bent * bent * bent);
    add_powers(other.weight, other.cosine, plan.order, sums);
  }
  const auto tell = [&](int row, const S& sum) {
    job.factors.put(row * kinds + c, b, sum - plan.middle[row * kinds + c]);
  };
  tell(0, job.count.get<S>(c, i) - counted<S>(plan, job, b, c));
  tell(1, job.beyond.get<S>(c, i) - ahead<S>(plan, job, b, c));
#pragma unroll
  for (int l = 0; l < kMostPowers; ++l) {
    if (l < plan.order) tell(2 + l, sums[l]);
  }
  tell(2 + plan.order, knotted);
}

/// How two bonds are turned against each other: the cosine between them around the axis.
template <class S>
struct Turn {
  S lifted, inverse, cosine;
  __device__ Turn(const Other<S>& one, const Other<S>& two)
      : lifted(dot(one.unit, two.unit) + one.cosine * two.cosine),
        inverse(one.inverse * two.inverse),
        cosine(lifted * inverse) {}
};

/// s_ji, and d.
template <class S>
__global__ void look_across(BondPlan plan, Job job) {
  const std::int64_t t = thread_number(), b = t % job.bonds;
  const int c = static_cast<int>(t / job.bonds), kinds = plan.species, seen = plan.seen;
  if (c >= kinds) return;
  const std::int64_t i = job.i[b], j = job.j[b], back = job.back[b];
  const std::int32_t first = job.begin(i), end = job.end(i);
  for (int k = c; k < seen; k += kinds) {
    job.factors.put(seen + k, b, job.factors.get<S>(k, back));
  }
  S axis[3], sums[kMostPowers] = {};
  job.direction(b, axis);
  for (std::int32_t f = job.begin(j), far = job.end(j); f < far; ++f) {
    if (f == back || job.kind(job.j[f]) != c) continue;
    const Other<S> two(job, f, axis, -1.0);
    for (std::int32_t e = first; e < end; ++e) {
      if (e == b || job.kind(job.j[e]) != c) continue;
      const Other<S> one(job, e, axis, 1.0);
      add_powers(one.weight * two.weight, Turn<S>(one, two).cosine, plan.turns, sums);
    }
  }
#pragma unroll
  for (int l = 0; l < kMostPowers; ++l) {
    if (l < plan.turns) job.factors.put(2 * seen + l * kinds + c, b, sums[l]);
  }
}

// ------------------------------------------------------------------------------------- energies

/// Functions of a length and their slopes by r / R, some at a time.
template <class S>
class Radial {
 public:
  __device__ Radial(const BondPlan& plan, const Job& job, std::int64_t b)
      : decay_(plan.decay),
        weight_(job.counted.get<S>(0, b)),
        fall_(job.counted.get<S>(1, b)),
        y_(exponential(plan.decay * (1.0 - job.length.get<S>(0, b)))),
        power_(constant<S>(1.0)) {}

  /// The next of them; 0 beyond `count`.
  template <bool kSlopes>
  __device__ void next(int count, S (&value)[kTogether], S (&slope)[kTogether]) {
#pragma unroll
    for (int a = 0; a < kTogether; ++a, ++passed_) {
      const bool there = passed_ < count;
      value[a] = there ? weight_ * power_ : S{};
      if constexpr (kSlopes) {
        slope[a] = there ? (fall_ - (passed_ * decay_) * weight_) * power_ : S{};
      }
      power_ = power_ * y_;
    }
  }

 private:
  double decay_;
  S weight_, fall_, y_, power_;
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

/// All of m contracted; slopes by the factors are added.
template <class S, bool kGradient>
__device__ void contract(const BondPlan& plan, const Job& job, std::int64_t b,
                         Contraction<S, kGradient>& made) {
  for (int x = 0; x < plan.terms; ++x) {
    const std::int16_t* f = plan.products[x].factors;
    const S one = job.factor<S>(f[0], b), two = job.factor<S>(f[1], b);
    const S three = job.factor<S>(f[2], b), pair = one * two;
    const S by = made.term(x, pair * three);
    if constexpr (kGradient) {
      const S rest = by * three;
      if (f[0] > 0) grow(job.by_factors, f[0] - 1, b, rest * two);
      if (f[1] > 0) grow(job.by_factors, f[1] - 1, b, rest * one);
      if (f[2] > 0) grow(job.by_factors, f[2] - 1, b, by * pair);
    }
  }
}

template <class S, bool kGradient>
__global__ void find_energies(BondPlan plan, Job job) {
  const std::int64_t b = thread_number();
  if (b >= job.bonds) return;
  const int chunks = (plan.radial + kTogether - 1) / kTogether;
  const int kind = job.kind(job.i[b]) * plan.species + job.kind(job.j[b]);
  Radial<S> radial(plan, job, b);
  if constexpr (kGradient) {
    for (int k = 0; k < 2 * plan.seen + plan.across; ++k) job.by_factors.put(k, b, S{});
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
  const kernels::BondProduct product = plan.products[t % plan.terms];
  double sum = 0;
  for (std::int64_t b = begin; b < end; ++b) {
    if (job.kind(job.i[b]) * plan.species + job.kind(job.j[b]) != kind) continue;
    S m = job.radial.get<S>(a, b);
    for (int f : product.factors) m = m * job.factor<S>(f, b);
    sum += job.weight(b) * told(m);
  }
  sums[t] = sum;
}

// --------------------------------------------------------------------------------------- slopes

/// Adds what the other end says.
template <class S>
__global__ void gather(BondPlan plan, Job job) {
  const std::int64_t t = thread_number(), b = t % job.bonds, back = job.back[b];
  const int k = static_cast<int>(t / job.bonds), seen = plan.seen, turned = k - seen;
  if (k < seen) {
    grow(job.by_factors, k, b, job.by_factors.get<S>(seen + k, back));
  } else if (turned < plan.across) {
    const int row = 2 * seen + turned;
    job.by_both.put(turned, b, job.by_factors.get<S>(row, b) + job.by_factors.get<S>(row, back));
  }
}

/// Powers of a cosine from the first on, times entries of an array, and the slope by the cosine.
template <class S>
struct Powers {
  S sum{}, slope{};

  __device__ Powers(const Numbers& array, int first, int stride, int count, std::int64_t b,
                    const S& cosine) {
    S power = constant<S>(1.0);
    for (int l = 1; l <= count; ++l, first += stride) {
      const S known = array.get<S>(first, b);
      slope += l * (known * power);
      power = power * cosine;
      sum += known * power;
    }
  }
};

/// Slopes by another bond's w, by the cosine to it, and by its direction.
template <class S>
struct ByOther {
  S weight{}, cosine{}, unit[3] = {};

  /// Through s of bond b; c: where the other leads.
  __device__ void add_cosine(const BondPlan& plan, const Job& job, std::int64_t b, int c,
                             const Other<S>& other) {
    const int kinds = plan.species;
    const S bent = other.past(plan.knot);
    const S by = job.by_factors.get<S>((plan.order + 2) * kinds + c, b) * (bent * bent);
    const Powers<S> by_powers(job.by_factors, 2 * kinds + c, kinds, plan.order, b, other.cosine);
    weight += by_powers.sum + by * bent;
    cosine += (by_powers.slope + 3.0 * by) * other.weight;
  }

  /// Through d, with another bond of the far end that leads to the same species.
  __device__ void add_turn(const BondPlan& plan, const Job& job, std::int64_t b, int c,
                           const Other<S>& one, const Other<S>& two) {
    const Turn<S> turn(one, two);
    const Powers<S> by_powers(job.by_both, c, plan.species, plan.turns, b, turn.cosine);
    weight += by_powers.sum * two.weight;
    const S by = by_powers.slope * (one.weight * two.weight), straight = by * turn.inverse;
    cosine += straight * two.cosine + by * (turn.lifted * (two.inverse * one.slope));
    for (int k = 0; k < 3; ++k) unit[k] += straight * two.unit[k];
  }
};

/// What bonds ask of the others of the atom they begin at.
template <class S>
__global__ void ask_others(BondPlan plan, Job job) {
  const std::int64_t b = thread_number();
  if (b >= job.bonds) return;
  const std::int64_t i = job.i[b], j = job.j[b];
  const std::int32_t back = job.back[b], first = job.begin(j), far = job.end(j);
  S axis[3], by_axis[3] = {};
  job.direction(b, axis);
  for (std::int32_t e = job.begin(i), end = job.end(i); e < end; ++e) {
    if (e == b) continue;
    const int c = job.kind(job.j[e]);
    const Other<S> one(job, e, axis, 1.0);
    ByOther<S> by;
    by.add_cosine(plan, job, b, c, one);
    for (std::int32_t f = first; f < far; ++f) {
      if (f == back || job.kind(job.j[f]) != c) continue;
      by.add_turn(plan, job, b, c, one, Other<S>(job, f, axis, -1.0));
    }
    const std::int64_t place = job.other(static_cast<std::int32_t>(b), e);
    for (int k = 0; k < 3; ++k) {
      by_axis[k] += by.cosine * one.unit[k];
      job.by_others.put(k, place, by.unit[k] + by.cosine * axis[k]);
    }
    job.by_others.put(3, place, by.weight);
  }
  for (int k = 0; k < 3; ++k) job.by_turned.put(k, b, by_axis[k]);
}

template <class S>
__device__ S by_beyond(const BondPlan& plan, const Job& job, std::int64_t b, int c) {
  return job.by_factors.get<S>(plan.species + c, b);
}

/// Slope by w of a bond times those beyond it.
template <class S>
__device__ S by_ahead(const BondPlan& plan, const Job& job, std::int64_t b, int c) {
  return job.by_beyond.get<S>(c, job.i[b]) - by_beyond<S>(plan, job, b, c);
}

template <class S>
__device__ S by_count(const BondPlan& plan, const Job& job, std::int64_t b, int c) {
  return job.by_factors.get<S>(c, b) + by_ahead<S>(plan, job, job.back[b], c) * job.w<S>(b);
}

/// Adds what the others of its atom ask of a bond.
template <class S>
__device__ void add_asked(const Job& job, std::int32_t b, S (&by_unit)[3], S& by_weight) {
  const std::int64_t i = job.i[b];
  for (std::int32_t e = job.begin(i), end = job.end(i); e < end; ++e) {
    if (e == b) continue;
    const std::int64_t place = job.other(e, b);
    for (int k = 0; k < 3; ++k) by_unit[k] += job.by_others.get<S>(k, place);
    by_weight += job.by_others.get<S>(3, place);
  }
}

/// Adds the slope by w through the sums over bonds of both ends.
template <class S>
__device__ void add_sums(const BondPlan& plan, const Job& job, std::int64_t b, S& by_weight) {
  const std::int64_t i = job.i[b], j = job.j[b];
  for (int c = 0; c < plan.species; ++c) {
    const S past = by_ahead<S>(plan, job, b, c);
    by_weight += past * job.count.get<S>(c, j);
    if (job.kind(j) == c) by_weight += job.by_count.get<S>(c, i) - job.by_factors.get<S>(c, b);
    if (job.kind(i) == c) by_weight -= 2.0 * (past * job.w<S>(b));
  }
}

template <class S>
__global__ void find_slopes(BondPlan plan, Job job) {
  const std::int64_t b = thread_number();
  if (b >= job.bonds) return;
  S u[3], by_unit[3], by_weight{};
  job.direction(b, u);
  for (int k = 0; k < 3; ++k) by_unit[k] = job.by_turned.get<S>(k, b);
  add_asked(job, static_cast<std::int32_t>(b), by_unit, by_weight);
  add_sums(plan, job, b, by_weight);
  const S inverse = job.length.get<S>(1, b);
  const S by_part = job.by_length.get<S>(0, b) + by_weight * job.counted.get<S>(1, b);
  const S along = dot(by_unit, u), pull = by_part * (1 / plan.reach);
  // so short that its inverse is taken as constant
  const bool tiny = value_of(inverse) * value_of(inverse) * kLeastSquare > 1 - 1e-14;
  for (int k = 0; k < 3; ++k) {
    const S usual = inverse * (by_unit[k] - u[k] * along) + u[k] * pull;
    const S close = inverse * by_unit[k] + 2.0 * (u[k] * pull);
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
        products_(plan.products, plan.terms, stream),
        of_pairs_(3 * rows.columns.shape[0] + 2, stream),
        others_(rows.offsets.shape[0], stream) {
    const std::int64_t pairs = rows.columns.shape[0];
    plan_.products = products_.get();
    plan_.middle = middle.data;
    job_.atoms = rows.offsets.shape[0] - 1;
    job_.pairs = pairs;
    job_.offsets = rows.offsets.data;
    job_.columns = rows.columns.data;
    job_.vectors = rows.vectors.data;
    job_.displacements = rows.displacements.data;
    job_.species = rows.species.data;
    job_.weights = directions.weights.data;
    job_.along = directions.along.data;
    job_.coefficients = packed_.get();
    job_.kept = of_pairs_.get();
    job_.number = job_.kept + pairs + 1;
    job_.facing = job_.number + pairs + 1;
    job_.others = others_.get();
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
    add_up(job_.kept, job_.number, job_.pairs + 1);
    start(count_others, job_.atoms + 1, stream_, job_);
    add_up(job_.others, job_.others, job_.atoms + 1);
    const auto found = read(unfaced.get());
    MLCORE_CHECK(
        found == kNowhere,
        "columns must hold every pair closer than the reach from both ends, once, but entry ",
        found, " is there from the other not once");
    job_.bonds = read(job_.number + job_.pairs);
  }

  /// Sums of those before each.
  template <class T>
  void add_up(const T* values, T* sums, std::int64_t count) {
    std::size_t bytes = 0;
    const auto scan = [&](void* memory) {
      check(cub::DeviceScan::ExclusiveSum(memory, bytes, values, sums, count, stream_),
            "number bonds");
    };
    scan(nullptr);
    const Scratch<char> memory(std::max<std::size_t>(bytes, 1), stream_);
    scan(memory.get());
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
    const bool slopes = results_.by_displacements.data != nullptr;
    const std::int64_t others = slopes ? read(job_.others + job_.atoms) : 0;
    const Scratch<double> memory(share(nullptr, sizeof(S) / sizeof(double), others), stream_);
    share(memory.get(), sizeof(S) / sizeof(double), others);
    over(set_bonds<S>, job_.atoms);
    add<S, counted<S>>(job_.count);
    add<S, ahead<S>>(job_.beyond);
    over(look_around<S>, job_.bonds * plan_.species);
    over(look_across<S>, job_.bonds * plan_.species);
    slopes ? over(find_energies<S, true>, job_.bonds) : over(find_energies<S, false>, job_.bonds);
    if (results_.energies.data) {
      start(tell_energies<S>, job_.atoms, stream_, job_, results_.energies.data);
    }
    if (results_.by_coefficients.data) grow_coefficients<S>();
    if (!slopes) return;
    over(gather<S>, job_.bonds * (plan_.seen + plan_.across));
    over(ask_others<S>, job_.bonds);
    add<S, by_beyond<S>>(job_.by_beyond);
    add<S, by_count<S>>(job_.by_count);
    over(find_slopes<S>, job_.bonds);
    start(tell_slopes<S>, job_.atoms, stream_, job_, results_.by_displacements.data);
  }

  void over(void (*kernel)(BondPlan, Job), std::int64_t threads) {
    start(kernel, threads, stream_, plan_, job_);
  }

  template <class S, S (*kOf)(const BondPlan&, const Job&, std::int64_t, int)>
  void add(const Numbers& sums) {
    start(sum_over<S, kOf>, job_.atoms * plan_.species, stream_, plan_, job_, sums);
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
  std::int64_t share(double* memory, int parts, std::int64_t others) {
    const int factors = 2 * plan_.seen + plan_.across;
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
        {&job_.counted, bonds, 2},
        {&job_.factors, bonds, factors},
        {&job_.radial, bonds, plan_.radial, results_.by_coefficients.data != nullptr},
        {&job_.energy, bonds, 1},
        {&job_.by_factors, bonds, factors, slopes},
        {&job_.by_both, bonds, plan_.across, slopes},
        {&job_.by_length, bonds, 1, slopes},
        {&job_.by_turned, bonds, 3, slopes},
        {&job_.slope, bonds, 3, slopes},
        {&job_.by_others, others, 4, slopes},
        {&job_.count, atoms, plan_.species},
        {&job_.beyond, atoms, plan_.species},
        {&job_.by_beyond, atoms, plan_.species, slopes},
        {&job_.by_count, atoms, plan_.species, slopes},
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
  Scratch<kernels::BondProduct> products_;
  Scratch<std::int32_t> of_pairs_;
  Scratch<std::int64_t> others_;
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
