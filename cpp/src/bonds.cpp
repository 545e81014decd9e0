#include "mlcore/bonds.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <vector>

#include "bonds_cuda.hpp"
#include "kernels/bonds.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kParts = 16;  // that slopes by coefficients are summed in
constexpr std::int64_t kGrain = 32;  // blocks of bonds, or atoms, worth waking a thread for
constexpr std::int64_t kMostTerms = std::int64_t{1} << 22;
constexpr double kSame = 1e-6;  // of the reach, by which both ends' vectors may differ

template <class T>
using Scratch = detail::Scratch<T>;

// ---------------------------------------------------------------------------------------- basis

kernels::Monomials monomials(int order) {
  kernels::Monomials m{};
  std::array<std::array<int, 3>, kernels::kMostMonomials> powers{};
  const auto factorial = [](int n) { return std::tgamma(n + 1.0); };
  for (int degree = 0; degree <= order; ++degree) {
    m.first[degree] = m.count;
    for (int a = degree; a >= 0; --a) {
      for (int b = degree - a; b >= 0; --b) {
        const std::array<int, 3> e{a, b, degree - a - b};
        powers[m.count] = e;
        m.factor[m.count] =
            std::round(factorial(degree) / (factorial(e[0]) * factorial(e[1]) * factorial(e[2])));
        if (degree > 0) {
          const int axis = e[0] > 0 ? 0 : e[1] > 0 ? 1 : 2;
          std::array<int, 3> less = e;
          --less[axis];
          m.axis[m.count] = axis;
          m.less[m.count] =
              static_cast<int>(std::find(powers.begin(), powers.end(), less) - powers.begin());
        }
        ++m.count;
      }
    }
  }
  m.first[order + 1] = m.count;
  for (int e = 0; e < m.first[order]; ++e) {
    for (int axis = 0; axis < 3; ++axis) {
      std::array<int, 3> more = powers[e];
      ++more[axis];
      m.more[e][axis] = static_cast<int>(std::find(powers.begin(), powers.begin() + m.count, more) -
                                         powers.begin());
    }
  }
  return m;
}

kernels::BondPlan plan_of(const BondBasis& basis) {
  const BondShape shape = bond_shape(basis);
  kernels::BondPlan plan{};
  plan.species = static_cast<int>(basis.species);
  plan.radial = static_cast<int>(basis.radial);
  plan.order = static_cast<int>(basis.order);
  plan.shells = static_cast<int>(basis.shells);
  plan.columns = plan.species * plan.shells;
  plan.seen = static_cast<int>(shape.seen);
  plan.terms = static_cast<int>(shape.columns);
  plan.reach = basis.reach;
  plan.monomials = monomials(plan.order);
  plan.across = plan.columns * (2 * plan.order - 1);
  plan.leaning = plan.columns * (plan.monomials.first[plan.order] - 1);
  return plan;
}

// --------------------------------------------------------------------------------------- checks

template <class T, int Rank>
void check_shape(const char* name, View<T, Rank> view, std::array<std::int64_t, Rank> shape,
                 Device device) {
  for (int axis = 0; axis < Rank; ++axis) {
    MLCORE_CHECK(view.shape[axis] == shape[axis], name, " must have the length ", shape[axis],
                 " along axis ", axis, ", got ", view.shape[axis]);
  }
  MLCORE_CHECK(view.device == device, name, ": all arrays must live on the same device");
}

void check(const kernels::BondPlan& plan, View<const double, 2> coefficients,
           View<const double, 1> middle, const BondRows& rows, const BondDirections& directions,
           const BondResults& results) {
  const Device device = rows.offsets.device;
  MLCORE_CHECK(rows.offsets.shape[0] >= 1, "offsets must hold n + 1 numbers, got none");
  const std::int64_t n = rows.offsets.shape[0] - 1, pairs = rows.columns.shape[0];
  const std::int64_t wide = std::int64_t{plan.radial} * plan.species * plan.species;
  check_shape<const double, 2>("coefficients", coefficients, {wide, plan.terms}, device);
  check_shape<const double, 1>("middle", middle, {plan.seen}, device);
  check_shape<const std::int32_t, 1>("columns", rows.columns, {pairs}, device);
  check_shape<const double, 2>("vectors", rows.vectors, {pairs, 3}, device);
  MLCORE_CHECK(n < (std::int64_t{1} << 31) && pairs < (std::int64_t{1} << 31),
               "rows must hold fewer than 2^31 atoms and pairs, got ", n, " and ", pairs);
  MLCORE_CHECK(plan.species == 1 || rows.species.data || n == 0,
               "species are needed for a basis of ", plan.species);
  if (rows.species.data) {
    check_shape<const std::int32_t, 1>("species", rows.species, {n}, device);
  }
  if (rows.displacements.data) {
    check_shape<const double, 2>("displacements", rows.displacements, {n, 3}, device);
  }
  if (directions.weights.data) {
    check_shape<const double, 1>("weights", directions.weights, {n}, device);
  }
  if (directions.along.data) {
    check_shape<const double, 2>("along", directions.along, {n, 3}, device);
  }
  if (results.energies.data) check_shape<double, 1>("energies", results.energies, {n}, device);
  if (results.by_displacements.data) {
    check_shape<double, 2>("by_displacements", results.by_displacements, {n, 3}, device);
  }
  if (results.by_coefficients.data) {
    check_shape<double, 2>("by_coefficients", results.by_coefficients, {wide, plan.terms}, device);
  }
}

void check_values(const kernels::BondPlan& plan, View<const double, 2> coefficients,
                  View<const double, 1> middle, const BondRows& rows,
                  const BondDirections& directions) {
  check_finite("coefficients", coefficients);
  check_finite("middle", middle);
  check_finite("vectors", rows.vectors);
  check_finite("displacements", rows.displacements);
  check_finite("weights", directions.weights);
  check_finite("along", directions.along);
  const std::int64_t n = rows.offsets.shape[0] - 1, pairs = rows.columns.shape[0];
  MLCORE_CHECK(rows.offsets(0) == 0 && rows.offsets(n) == pairs,
               "offsets must begin with 0 and end with the number of columns, ", pairs, ", got ",
               rows.offsets(0), " and ", rows.offsets(n));
  for (std::int64_t i = 0; i < n; ++i) {
    MLCORE_CHECK(rows.offsets(i) <= rows.offsets(i + 1), "offsets must not fall, but after row ", i,
                 " they do");
    MLCORE_CHECK(!rows.species.data || (rows.species(i) >= 0 && rows.species(i) < plan.species),
                 "species must lie in 0..", plan.species - 1, ", but that of atom ", i, " is ",
                 rows.species(i));
  }
  for (std::int64_t e = 0; e < pairs; ++e) {
    MLCORE_CHECK(rows.columns(e) >= 0 && rows.columns(e) < n, "columns must lie in 0..", n - 1,
                 ", but entry ", e, " is ", rows.columns(e));
  }
}

// ---------------------------------------------------------------------------------------- bonds

/// The pairs that are closer than the reach.
class Found {
 public:
  Found(const BondRows& rows, double reach, const BondDirections& directions, int lanes)
      : first(rows.offsets.shape[0]) {
    const std::int64_t n = rows.offsets.shape[0] - 1, pairs = rows.columns.shape[0];
    Scratch<double> moved(3 * pairs);
    Scratch<std::int32_t> number(pairs);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t e = rows.offsets(i); e < rows.offsets(i + 1); ++e) {
        vector_of(rows, i, e, &moved[3 * e]);
        number[e] = square(&moved[3 * e]) < reach * reach ? 0 : -1;
      }
    }
    Scratch<std::int64_t> facing(pairs);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t e = rows.offsets(i); e < rows.offsets(i + 1); ++e) {
        facing[e] = number[e] < 0 ? -1 : opposite(rows, moved, i, e, reach);
      }
    }
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      first[i] = count;
      for (std::int64_t e = rows.offsets(i); e < rows.offsets(i + 1); ++e) {
        if (facing[e] < 0) continue;
        const std::int64_t back = facing[facing[e]];
        MLCORE_CHECK(back < 0 || back == e, "columns must hold every pair once from each end, but ",
                     "that of ", i, " and ", rows.columns(e), ", entry ", e, ", is there twice");
        // by rounding within the reach from one end only
        number[e] = back < 0 ? -1 : static_cast<std::int32_t>(count++);
      }
    }
    first[n] = bonds = count;
    blocks = (count + lanes - 1) / lanes;
    fill(rows, directions, moved, number, facing, reach, lanes);
  }

  std::int64_t bonds, blocks;
  Scratch<std::int64_t> first;
  Scratch<std::int32_t> i, j, back;
  Scratch<double> vectors, along;

 private:
  static double square(const double* d) { return d[0] * d[0] + d[1] * d[1] + d[2] * d[2]; }

  static void vector_of(const BondRows& rows, std::int64_t i, std::int64_t e, double* to) {
    const std::int64_t j = rows.columns(e);
    for (int k = 0; k < 3; ++k) {
      to[k] = rows.vectors(e, k);
      if (rows.displacements.data) to[k] += rows.displacements(j, k) - rows.displacements(i, k);
    }
  }

  static std::int64_t opposite(const BondRows& rows, const Scratch<double>& moved, std::int64_t i,
                               std::int64_t e, double reach) {
    const std::int64_t j = rows.columns(e);
    for (std::int64_t f = rows.offsets(j); f < rows.offsets(j + 1); ++f) {
      if (rows.columns(f) != i) continue;
      double sum[3];
      for (int k = 0; k < 3; ++k) sum[k] = moved[3 * e + k] + moved[3 * f + k];
      if (square(sum) <= kSame * kSame * reach * reach && (f != e)) return f;
    }
    detail::raise<InvalidArgument>(
        "columns must hold every pair closer than the reach from both ends, but that of ", i,
        " and ", j, ", entry ", e, ", is not there from the other");
  }

  void fill(const BondRows& rows, const BondDirections& directions, const Scratch<double>& moved,
            const Scratch<std::int32_t>& number, const Scratch<std::int64_t>& facing, double reach,
            int lanes) {
    const std::int64_t padded = blocks * lanes;
    i.resize(padded);
    j.resize(padded);
    back.resize(padded);
    vectors.resize(3 * padded);
    const bool derived = directions.along.data != nullptr;
    if (derived) along.resize(3 * padded);
    for (std::int64_t b = bonds; b < padded; ++b) {
      i[b] = j[b] = 0;
      back[b] = static_cast<std::int32_t>(b);
      for (int k = 0; k < 3; ++k) {
        vectors[place(b, k, lanes)] = k == 0 ? reach : 0.0;
        if (derived) along[place(b, k, lanes)] = 0;
      }
    }
    for (std::int64_t a = 0; a + 1 < rows.offsets.shape[0]; ++a) {
      for (std::int64_t e = rows.offsets(a); e < rows.offsets(a + 1); ++e) {
        const std::int64_t b = number[e];
        if (b < 0) continue;
        i[b] = static_cast<std::int32_t>(a);
        j[b] = rows.columns(e);
        back[b] = number[facing[e]];
        for (int k = 0; k < 3; ++k) {
          vectors[place(b, k, lanes)] = moved[3 * e + k];
          if (derived) {
            along[place(b, k, lanes)] = directions.along(j[b], k) - directions.along(a, k);
          }
        }
      }
    }
  }

  static std::int64_t place(std::int64_t bond, int k, int lanes) {
    return (bond / lanes * 3 + k) * lanes + bond % lanes;
  }
};

// ------------------------------------------------------------------------------------------- run

/// C as the kernels read it: the functions of lengths of a term beside each other.
Scratch<double> packed(const kernels::BondPlan& plan, View<const double, 2> coefficients) {
  Scratch<double> made(coefficients.size());
  std::int64_t next = 0;
  for (int kind = 0; kind < plan.species * plan.species; ++kind) {
    for (int x = 0; x < plan.terms; ++x) {
      for (int a = 0; a < plan.radial; ++a) {
        made[next++] = coefficients(std::int64_t{kind} * plan.radial + a, x);
      }
    }
  }
  return made;
}

class Evaluation {
 public:
  Evaluation(const Context& context, kernels::BondPlan plan, View<const double, 2> coefficients,
             View<const double, 1> middle, const BondRows& rows, const BondDirections& directions,
             const BondResults& results)
      : context_(context),
        plan_(plan),
        packed_(packed(plan, coefficients)),
        rows_(rows),
        results_(results),
        lanes_(MLCORE_DISPATCH(bond_lanes)()),
        found_(rows, plan.reach, directions, lanes_) {
    plan_.coefficients = packed_.data();
    plan_.middle = middle.data;
    job_.bonds = found_.bonds;
    job_.blocks = found_.blocks;
    job_.atoms = rows.offsets.shape[0] - 1;
    job_.first = found_.first.data();
    job_.i = found_.i.data();
    job_.j = found_.j.data();
    job_.back = found_.back.data();
    job_.species = rows.species.data;
    job_.vectors = found_.vectors.data();
    job_.along = directions.along.data ? found_.along.data() : nullptr;
    job_.gradient = results.by_displacements.data || results.by_coefficients.data;
    if (directions.weights.data) {
      job_.weights = directions.weights.data;
    } else {
      ones_.assign(job_.atoms, 1.0);
      job_.weights = ones_.data();
    }
    allocate();
  }

  void run() {
    over(job_.blocks, MLCORE_DISPATCH(bond_geometry));
    over(job_.atoms, MLCORE_DISPATCH(bond_moments));
    over(job_.atoms, MLCORE_DISPATCH(bond_beyond));
    over(job_.blocks, MLCORE_DISPATCH(bond_around));
    energies();
    if (results_.energies.data) tell_energies();
    if (!results_.by_displacements.data) return;
    over(job_.blocks, MLCORE_DISPATCH(bond_gather));
    over(job_.atoms, MLCORE_DISPATCH(bond_by_beyond));
    over(job_.atoms, MLCORE_DISPATCH(bond_by_moments));
    over(job_.blocks, MLCORE_DISPATCH(bond_slopes));
    tell_slopes();
  }

 private:
  int parts() const { return job_.along ? 2 : 1; }

  void allocate() {
    const int turned = plan_.order * plan_.columns;
    const auto columns = static_cast<int>(plan_.columns);
    const std::int64_t per_bond = std::int64_t{lanes_} * parts() * job_.blocks;
    const std::int64_t per_atom = parts() * job_.atoms;
    const bool slopes = job_.gradient || job_.along;
    struct Array {
      double** to;
      std::int64_t size;
    };
    const Array arrays[] = {
        {&job_.unit, per_bond * 3},
        {&job_.length, per_bond * 2},
        {&job_.shell, per_bond * plan_.shells},
        {&job_.cosine, per_bond * turned},
        {&job_.around, per_bond * plan_.seen},
        {&job_.energy, per_bond},
        {&job_.by_own, slopes ? per_bond * plan_.seen : 0},
        {&job_.by_other, slopes ? per_bond * plan_.seen : 0},
        {&job_.leaning, per_bond * plan_.leaning},
        {&job_.by_across, slopes ? per_bond * plan_.across : 0},
        {&job_.by_leaning, slopes ? per_bond * plan_.leaning : 0},
        {&job_.by_both, slopes ? per_bond * turned : 0},
        {&job_.by_length, slopes ? per_bond : 0},
        {&job_.slope, slopes ? per_bond * 3 : 0},
        {&job_.moments, per_atom * columns * plan_.monomials.count},
        {&job_.beyond, per_atom * columns},
        {&job_.by_moments, slopes ? per_atom * columns * plan_.monomials.count : 0},
        {&job_.by_beyond, slopes ? per_atom * columns : 0},
    };
    std::int64_t total = 0;
    for (const Array& array : arrays) total += array.size;
    memory_.resize(total);
    double* next = memory_.data();
    for (const Array& array : arrays) {
      *array.to = next;
      next += array.size;
    }
  }

  template <class Kernel>
  void over(std::int64_t count, Kernel kernel) {
    detail::parallel_for(context_, count, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
      kernel(plan_, job_, begin, end);
    });
  }

  void energies() {
    const auto kernel = MLCORE_DISPATCH(bond_energies);
    if (!results_.by_coefficients.data) {
      detail::parallel_for(context_, job_.blocks, kGrain,
                           [&](std::int64_t begin, std::int64_t end, int) {
                             kernel(plan_, job_, begin, end, nullptr);
                           });
      return;
    }
    const std::int64_t size = packed_.size() * lanes_;
    Scratch<double> sums(kParts * size);
    detail::parallel_for(context_, kParts, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t p = begin; p < end; ++p) {
        double* to = sums.data() + p * size;
        std::fill(to, to + size, 0.0);
        kernel(plan_, job_, p * job_.blocks / kParts, (p + 1) * job_.blocks / kParts, to);
      }
    });
    tell_coefficients(sums, size);
  }

  void tell_coefficients(const Scratch<double>& sums, std::int64_t size) {
    std::int64_t next = 0;
    for (int kind = 0; kind < plan_.species * plan_.species; ++kind) {
      for (int x = 0; x < plan_.terms; ++x) {
        for (int a = 0; a < plan_.radial; ++a, ++next) {
          double sum = 0;
          for (std::int64_t p = 0; p < kParts; ++p) {
            const double* part = sums.data() + p * size + next * lanes_;
            for (int lane = 0; lane < lanes_; ++lane) sum += part[lane];
          }
          results_.by_coefficients(std::int64_t{kind} * plan_.radial + a, x) = sum;
        }
      }
    }
  }

  /// An entry of an array over bonds: its last part, the derivative where there is one.
  double told(const double* array, std::int64_t bond, int entries, int k) const {
    const std::int64_t row = (bond / lanes_ * entries + k) * parts() + parts() - 1;
    return array[row * lanes_ + bond % lanes_];
  }

  void tell_energies() {
    for (std::int64_t i = 0; i < job_.atoms; ++i) {
      double sum = 0;
      for (std::int64_t b = job_.first[i]; b < job_.first[i + 1]; ++b) {
        sum += told(job_.energy, b, 1, 0);
      }
      results_.energies(i) = sum;
    }
  }

  void tell_slopes() {
    for (std::int64_t i = 0; i < job_.atoms; ++i) {
      for (int k = 0; k < 3; ++k) {
        double sum = 0;
        for (std::int64_t b = job_.first[i]; b < job_.first[i + 1]; ++b) {
          sum += told(job_.slope, job_.back[b], 3, k) - told(job_.slope, b, 3, k);
        }
        results_.by_displacements(i, k) = sum;
      }
    }
  }

  const Context& context_;
  kernels::BondPlan plan_;
  kernels::BondJob job_{};
  Scratch<double> packed_, memory_;
  std::vector<double> ones_;
  const BondRows& rows_;
  const BondResults& results_;
  int lanes_;
  Found found_;
};

}  // namespace

BondShape bond_shape(const BondBasis& basis) {
  const auto within = [](const char* name, std::int64_t value, std::int64_t most) {
    MLCORE_CHECK(value >= 1 && value <= most, name, " must lie in 1..", most, ", got ", value);
  };
  within("species", basis.species, 64);
  within("radial", basis.radial, 64);
  within("order", basis.order, 6);
  within("shells", basis.shells, 4);
  MLCORE_CHECK(std::isfinite(basis.reach) && basis.reach > 0,
               "reach must be a length above 0, got ", basis.reach);
  const std::int64_t columns = basis.species * basis.shells, seen = columns * (basis.order + 2);
  MLCORE_CHECK(seen <= kernels::kMostSeen, "species * shells * (order + 2) must be at most ",
               kernels::kMostSeen, ", got ", seen);
  const BondShape shape{basis.radial * basis.species * basis.species,
                        1 + seen + seen * (seen + 1) + (2 * basis.order - 1) * columns, seen};
  MLCORE_CHECK(shape.rows * shape.columns <= kMostTerms, "radial, order, shells and species make ",
               shape.rows * shape.columns, " coefficients, at most ", kMostTerms, " are there");
  return shape;
}

void evaluate_bonds(const Context& context, const BondBasis& basis,
                    View<const double, 2> coefficients, View<const double, 1> middle,
                    const BondRows& rows, const BondDirections& directions,
                    const BondResults& results) {
  const kernels::BondPlan plan = plan_of(basis);
  check(plan, coefficients, middle, rows, directions, results);
  if (rows.offsets.device == Device::cuda) {
    return cuda::evaluate_bonds(context, plan, coefficients, middle, rows, directions, results);
  }
  check_values(plan, coefficients, middle, rows, directions);
  Evaluation(context, plan, coefficients, middle, rows, directions, results).run();
}

}  // namespace mlcore
