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
constexpr std::size_t kMostColumns = 4096;
constexpr double kSame = 1e-6;  // of the reach, by which both ends' vectors may differ

template <class T>
using Scratch = detail::Scratch<T>;

// ---------------------------------------------------------------------------------------- basis

/// Products of up to `most` of some factors, by their number, in lexicographic order.
std::vector<std::vector<int>> products_of(const std::vector<int>& factors, int most) {
  std::vector<std::vector<int>> made{{}};
  std::size_t begin = 0;
  for (int size = 1; size <= most; ++size) {
    const std::size_t end = made.size();
    for (std::size_t k = begin; k < end; ++k) {
      for (int factor : factors) {
        if (!made[k].empty() && factor < made[k].back()) continue;
        made.push_back(made[k]);
        made.back().push_back(factor);
      }
    }
    begin = end;
  }
  return made;
}

/// What m holds, see the header.
class Products {
 public:
  explicit Products(const BondBasis& basis)
      : kinds_(static_cast<int>(basis.species)),
        seen_(kinds_ * (static_cast<int>(basis.order) + 3)) {
    std::vector<int> own = counts(0), both = counts(0);
    for (int k = 2 * kinds_; k < seen_; ++k) own.push_back(1 + k);
    for (int k = kinds_; k < 2 * kinds_; ++k) both.push_back(1 + k);
    for (int k = 0; k < 2 * kinds_; ++k) both.push_back(1 + seen_ + k);
    const int degree = static_cast<int>(basis.degree);
    for (const auto& product : products_of(own, degree)) add(product);
    for (const auto& product : products_of(both, 3)) {
      if (!already(product, degree)) add(product);
    }
    std::vector<int> ends = counts(0);
    for (int k : counts(seen_)) ends.push_back(k);
    for (int d = 0; d < basis.turns * kinds_; ++d) {
      for (auto product : products_of(ends, 2)) {
        if (mirrored(product) < product) continue;
        product.push_back(1 + 2 * seen_ + d);
        add(product);
      }
    }
  }

  std::vector<kernels::BondProduct> made;

 private:
  /// n of all species of the end whose s begins there.
  std::vector<int> counts(int end) const {
    std::vector<int> made;
    for (int k = 0; k < kinds_; ++k) made.push_back(1 + end + k);
    return made;
  }

  std::vector<int> mirrored(std::vector<int> product) const {
    for (int& factor : product) factor += factor <= seen_ ? seen_ : -seen_;
    std::sort(product.begin(), product.end());
    return product;
  }

  /// Whether it, or its mirror image, stands before it.
  bool already(const std::vector<int>& product, int degree) const {
    const std::vector<int> image = mirrored(product);
    if (image < product) return true;
    const auto own = [&](int factor) { return factor <= kinds_; };
    return static_cast<int>(product.size()) <= degree &&
           std::all_of(product.begin(), product.end(), own);
  }

  void add(const std::vector<int>& product) {
    kernels::BondProduct one{};
    for (std::size_t k = 0; k < product.size(); ++k) {
      one.factors[k] = static_cast<std::int16_t>(product[k]);
    }
    made.push_back(one);
  }

  int kinds_, seen_;
};

/// Without arrays but the products.
kernels::BondPlan plan_of(const BondBasis& basis, const BondShape& shape,
                          const std::vector<kernels::BondProduct>& products) {
  kernels::BondPlan plan{};
  plan.species = static_cast<int>(basis.species);
  plan.radial = static_cast<int>(basis.radial);
  plan.order = static_cast<int>(basis.order);
  plan.turns = static_cast<int>(basis.turns);
  plan.seen = static_cast<int>(shape.seen);
  plan.across = plan.species * plan.turns;
  plan.terms = static_cast<int>(shape.columns);
  plan.reach = basis.reach;
  plan.inner = basis.inner;
  plan.decay = basis.decay;
  plan.knot = basis.knot;
  plan.products = products.data();
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
        results_(results),
        lanes_(MLCORE_DISPATCH(bond_lanes)()),
        found_(rows, plan.reach, directions, lanes_),
        others_(found_.first.size()) {
    plan_.coefficients = packed_.data();
    plan_.middle = middle.data;
    job_.bonds = found_.bonds;
    job_.blocks = found_.blocks;
    job_.atoms = rows.offsets.shape[0] - 1;
    job_.first = found_.first.data();
    others_[0] = 0;
    for (std::int64_t a = 0; a < job_.atoms; ++a) {
      const std::int64_t count = job_.first[a + 1] - job_.first[a];
      others_[a + 1] = others_[a] + count * (count - 1);
    }
    job_.others = others_.data();
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
    over(job_.atoms, MLCORE_DISPATCH(bond_count));
    over(job_.atoms, MLCORE_DISPATCH(bond_beyond));
    over(job_.blocks, MLCORE_DISPATCH(bond_around));
    energies();
    if (results_.energies.data) tell_energies();
    if (!results_.by_displacements.data) return;
    over(job_.blocks, MLCORE_DISPATCH(bond_gather));
    over(job_.blocks, MLCORE_DISPATCH(bond_by_others));
    over(job_.atoms, MLCORE_DISPATCH(bond_by_beyond));
    over(job_.atoms, MLCORE_DISPATCH(bond_by_count));
    over(job_.blocks, MLCORE_DISPATCH(bond_slopes));
    tell_slopes();
  }

 private:
  int parts() const { return job_.along ? 2 : 1; }

  void allocate() {
    const std::int64_t per_bond = std::int64_t{lanes_} * parts() * job_.blocks;
    const std::int64_t per_atom = std::int64_t{plan_.species} * parts() * job_.atoms;
    const bool slopes = job_.gradient || job_.along;
    struct Array {
      double** to;
      std::int64_t size;
      bool wanted = true;
    };
    const Array arrays[] = {
        {&job_.unit, per_bond * 3},
        {&job_.length, per_bond * 2},
        {&job_.counted, per_bond * 2},
        {&job_.ahead, per_bond * plan_.species},
        {&job_.around, per_bond * plan_.seen},
        {&job_.energy, per_bond},
        {&job_.by_own, per_bond * plan_.seen, slopes},
        {&job_.by_other, per_bond * plan_.seen, slopes},
        {&job_.by_across, per_bond * plan_.across, slopes},
        {&job_.by_both, per_bond * plan_.across, slopes},
        {&job_.by_length, per_bond, slopes},
        {&job_.by_turned, per_bond * 4, slopes},
        {&job_.slope, per_bond * 3, slopes},
        {&job_.by_others, others_[job_.atoms] * 4 * parts(),
         results_.by_displacements.data != nullptr},
        {&job_.count, per_atom},
        {&job_.beyond, per_atom},
        {&job_.by_beyond, per_atom, slopes},
        {&job_.by_count, per_atom, slopes},
    };
    std::int64_t total = 0;
    for (const Array& array : arrays) total += array.wanted ? array.size : 0;
    memory_.resize(total);
    double* next = memory_.data();
    for (const Array& array : arrays) {
      *array.to = next;
      next += array.wanted ? array.size : 0;
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
  const BondResults& results_;
  int lanes_;
  Found found_;
  std::vector<std::int64_t> others_;
};

/// Of a basis whose numbers are in range.
BondShape shape_of(const BondBasis& basis, std::size_t columns) {
  return {basis.radial * basis.species * basis.species, static_cast<std::int64_t>(columns),
          basis.species * (basis.order + 3)};
}

std::vector<kernels::BondProduct> checked_products(const BondBasis& basis) {
  const auto within = [](const char* name, std::int64_t value, std::int64_t most) {
    MLCORE_CHECK(value >= 1 && value <= most, name, " must lie in 1..", most, ", got ", value);
  };
  within("species", basis.species, 16);
  within("radial", basis.radial, kernels::kMostRadial);
  within("order", basis.order, 6);
  within("turns", basis.turns, kernels::kMostPowers);
  within("degree", basis.degree, 3);
  MLCORE_CHECK(std::isfinite(basis.reach) && basis.reach > 0,
               "reach must be a length above 0, got ", basis.reach);
  MLCORE_CHECK(basis.inner >= 0 && basis.inner < basis.reach,
               "inner must be a length from 0 to below the reach, ", basis.reach, ", got ",
               basis.inner);
  MLCORE_CHECK(basis.decay > 0 && basis.decay <= 16, "decay must lie above 0 and up to 16, got ",
               basis.decay);
  MLCORE_CHECK(basis.knot >= -1 && basis.knot < 1, "knot must lie in -1..1, below 1, got ",
               basis.knot);
  const std::int64_t seen = basis.species * (basis.order + 3);
  MLCORE_CHECK(seen <= kernels::kMostSeen, "species * (order + 3) must be at most ",
               kernels::kMostSeen, ", got ", seen);
  MLCORE_CHECK(basis.species * basis.turns <= kernels::kMostSeen,
               "species * turns must be at most ", kernels::kMostSeen, ", got ",
               basis.species * basis.turns);
  std::vector<kernels::BondProduct> made = Products(basis).made;
  MLCORE_CHECK(made.size() <= kMostColumns, "species, order, turns and degree make ", made.size(),
               " columns of coefficients, at most ", kMostColumns, " are there");
  return made;
}

}  // namespace

BondShape bond_shape(const BondBasis& basis) {
  return shape_of(basis, checked_products(basis).size());
}

std::vector<std::array<std::int64_t, 3>> bond_products(const BondBasis& basis) {
  std::vector<std::array<std::int64_t, 3>> made;
  for (const auto& [factors] : checked_products(basis)) {
    made.push_back({factors[0], factors[1], factors[2]});
  }
  return made;
}

void evaluate_bonds(const Context& context, const BondBasis& basis,
                    View<const double, 2> coefficients, View<const double, 1> middle,
                    const BondRows& rows, const BondDirections& directions,
                    const BondResults& results) {
  const std::vector<kernels::BondProduct> products = checked_products(basis);
  const kernels::BondPlan plan = plan_of(basis, shape_of(basis, products.size()), products);
  check(plan, coefficients, middle, rows, directions, results);
  if (rows.offsets.device == Device::cuda) {
    return cuda::evaluate_bonds(context, plan, coefficients, middle, rows, directions, results);
  }
  check_values(plan, coefficients, middle, rows, directions);
  Evaluation(context, plan, coefficients, middle, rows, directions, results).run();
}

}  // namespace mlcore
