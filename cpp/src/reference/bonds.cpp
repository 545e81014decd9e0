#include "mlcore/reference/bonds.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace mlcore::reference {
namespace {

using Real = long double;
const Real kPi = std::acos(Real{-1});

struct Bond {
  std::int64_t i, j;
  Real length, unit[3];
  Real weight;  // w
};

Real cosine(const Bond& a, const Bond& b) {
  return a.unit[0] * b.unit[0] + a.unit[1] * b.unit[1] + a.unit[2] * b.unit[2];
}

class Bonds {
 public:
  Bonds(const BondBasis& basis, View<const double, 1> middle, const BondRows& rows)
      : basis_(basis), middle_(middle), rows_(rows), of_(rows.offsets.shape[0] - 1) {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(of_.size()); ++i) {
      for (std::int64_t e = rows.offsets(i); e < rows.offsets(i + 1); ++e) add(i, e);
    }
  }

  const std::vector<Bond>& of(std::int64_t i) const { return of_[i]; }

  /// s of a bond.
  std::vector<Real> seen(const Bond& bond) const {
    const std::int64_t kinds = basis_.species;
    std::vector<Real> s(bond_shape(basis_).seen);
    for (const Bond& other : of_[bond.i]) {
      if (&other == &bond) continue;
      const std::int64_t k = species(other.j);
      const Real c = cosine(bond, other), bent = std::max(Real{0}, c - basis_.knot);
      s[k] += other.weight;
      for (std::int64_t l = 1; l <= basis_.order; ++l) {
        s[(l + 1) * kinds + k] += other.weight * std::pow(c, l);
      }
      s[(basis_.order + 2) * kinds + k] += other.weight * bent * bent * bent;
      const Bond& back = facing(other);
      for (const Bond& next : of_[other.j]) {
        if (&next != &back) s[kinds + species(next.j)] += other.weight * next.weight;
      }
    }
    for (std::size_t k = 0; k < s.size(); ++k) s[k] -= middle_(static_cast<std::int64_t>(k));
    return s;
  }

  /// d of a bond.
  std::vector<Real> turned(const Bond& bond) const {
    const Bond& back = facing(bond);
    std::vector<Real> d(basis_.turns * basis_.species);
    for (const Bond& one : of_[bond.i]) {
      for (const Bond& two : of_[bond.j]) {
        if (&one == &bond || &two == &back || species(one.j) != species(two.j)) continue;
        const Real a = cosine(one, bond), b = cosine(two, back);
        const Real turn = (cosine(one, two) + a * b) / std::sqrt(sine(a) * sine(b));
        for (std::int64_t l = 1; l <= basis_.turns; ++l) {
          d[(l - 1) * basis_.species + species(one.j)] +=
              one.weight * two.weight * std::pow(turn, l);
        }
      }
    }
    return d;
  }

  /// m of a bond.
  std::vector<Real> products(const Bond& bond) const {
    const std::vector<Real> own = seen(bond), other = seen(facing(bond));
    const std::size_t kinds = basis_.species;
    std::vector<Factor> angles, counts, ends;
    for (std::size_t k = 0; k < own.size(); ++k) {
      const bool beyond = k >= kinds && k < 2 * kinds;
      if (!beyond) angles.push_back({0, k, own[k]});
      if (k < 2 * kinds) counts.push_back({0, k, own[k]});
      if (k < kinds) ends.push_back({0, k, own[k]});
    }
    for (std::size_t k = 0; k < 2 * kinds; ++k) {
      counts.push_back({1, k, other[k]});
      if (k < kinds) ends.push_back({1, k, other[k]});
    }
    std::vector<Real> m;
    for (int size = 0; size <= basis_.degree; ++size) {
      each(angles, size, {}, [&](const Product& p) { m.push_back(value(p)); });
    }
    for (int size = 0; size <= 3; ++size) {
      each(counts, size, {}, [&](const Product& p) {
        const bool alone = std::all_of(
            p.begin(), p.end(), [&](const Factor& f) { return f.end == 0 && f.place < kinds; });
        if (first(p) && !(alone && size <= basis_.degree)) m.push_back(value(p));
      });
    }
    for (Real d : turned(bond)) {
      for (int size = 0; size <= 2; ++size) {
        each(ends, size, {}, [&](const Product& p) {
          if (first(p)) m.push_back(value(p) * d);
        });
      }
    }
    return m;
  }

  std::int64_t kind(const Bond& bond) const {
    return species(bond.i) * basis_.species + species(bond.j);
  }

 private:
  std::int64_t species(std::int64_t i) const { return rows_.species.data ? rows_.species(i) : 0; }

  /// An entry of s of the bond (end 0) or of the bond from its other end (1).
  struct Factor {
    int end;
    std::size_t place;
    Real value;
    std::pair<int, std::size_t> name() const { return {end, place}; }
  };
  using Product = std::vector<Factor>;

  static Real value(const Product& product) {
    Real made = 1;
    for (const Factor& f : product) made *= f.value;
    return made;
  }

  /// Calls with every product of so many factors.
  template <class Call>
  static void each(const std::vector<Factor>& factors, int size, Product product,
                   const Call& call) {
    if (static_cast<int>(product.size()) == size) return call(product);
    for (const Factor& f : factors) {
      if (!product.empty() && f.name() < product.back().name()) continue;
      Product longer = product;
      longer.push_back(f);
      each(factors, size, longer, call);
    }
  }

  /// Whether it comes before its mirror image.
  static bool first(const Product& product) {
    std::vector<std::pair<int, std::size_t>> names, images;
    for (const Factor& f : product) {
      names.push_back(f.name());
      images.emplace_back(1 - f.end, f.place);
    }
    std::sort(images.begin(), images.end());
    return names <= images;
  }

  static Real sine(Real cosine) {
    const Real square = 1 - cosine * cosine;
    return square < 0.1L ? 0.05L + 5 * square * square : square;
  }

  void add(std::int64_t i, std::int64_t e) {
    Bond bond{i, rows_.columns(e), 0, {}, 0};
    Real square = 0;
    for (int k = 0; k < 3; ++k) {
      bond.unit[k] = rows_.vectors(e, k);
      if (rows_.displacements.data) {
        bond.unit[k] += rows_.displacements(bond.j, k) - Real{rows_.displacements(i, k)};
      }
      square += bond.unit[k] * bond.unit[k];
    }
    bond.length = std::sqrt(square);
    if (bond.length >= basis_.reach) return;
    for (Real& u : bond.unit) u /= bond.length;
    const Real fallen = (bond.length - basis_.inner) / (basis_.reach - basis_.inner);
    bond.weight = fallen > 0 ? (1 + std::cos(kPi * fallen)) / 2 : 1;
    of_[i].push_back(bond);
  }

  /// The same bond from its other end.
  const Bond& facing(const Bond& bond) const {
    const Bond* best = nullptr;
    for (const Bond& other : of_[bond.j]) {
      if (other.j != bond.i || &other == &bond) continue;
      Real apart = 0;
      for (int k = 0; k < 3; ++k) {
        apart += std::abs(bond.length * bond.unit[k] + other.length * other.unit[k]);
      }
      if (apart < 1e-6L * basis_.reach) best = &other;
    }
    MLCORE_CHECK(best, "columns must hold every pair from both ends, but that of ", bond.i, " and ",
                 bond.j, " is not there from the other");
    return *best;
  }

  const BondBasis& basis_;
  View<const double, 1> middle_;
  const BondRows& rows_;
  std::vector<std::vector<Bond>> of_;
};

}  // namespace

void bond_energies(const BondBasis& basis, View<const double, 2> coefficients,
                   View<const double, 1> middle, const BondRows& rows, View<double, 1> energies) {
  const Bonds bonds(basis, middle, rows);
  for (std::int64_t i = 0; i + 1 < rows.offsets.shape[0]; ++i) {
    Real energy = 0;
    for (const Bond& bond : bonds.of(i)) {
      const std::vector<Real> m = bonds.products(bond);
      const Real p = bond.length / basis.reach;
      for (std::int64_t a = 0; a < basis.radial; ++a) {
        Real sum = 0;
        for (std::size_t x = 0; x < m.size(); ++x) {
          sum += coefficients(bonds.kind(bond) * basis.radial + a, static_cast<std::int64_t>(x)) *
                 m[x];
        }
        energy += bond.weight * std::exp(static_cast<Real>(a) * basis.decay * (1 - p)) * sum;
      }
    }
    energies(i) = static_cast<double>(energy);
  }
}

}  // namespace mlcore::reference
