#include "mlcore/reference/bonds.hpp"

#include <cmath>
#include <vector>

namespace mlcore::reference {
namespace {

using Real = long double;
const Real kPi = std::acos(Real{-1});

struct Bond {
  std::int64_t i, j;
  Real length, unit[3];
  std::vector<Real> weight;  // w_q
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
    std::vector<Real> s(bond_shape(basis_).seen);
    for (std::int64_t k = 0; k < columns(); ++k) {
      Real count = 0, beyond = 0;
      std::vector<Real> turned(basis_.order);
      for (const Bond& other : of_[bond.i]) {
        if (&other == &bond) continue;
        const Real w = weight(other, k), c = cosine(bond, other);
        count += w;
        for (std::int64_t l = 1; l <= basis_.order; ++l) turned[l - 1] += w * std::pow(c, l);
        const Bond& back = facing(other);
        for (const Bond& next : of_[other.j]) {
          if (&next != &back) beyond += other.weight[k % basis_.shells] * weight(next, k);
        }
      }
      s[k] = count - middle_(k);
      s[columns() + k] = beyond - middle_(columns() + k);
      for (std::int64_t l = 1; l <= basis_.order; ++l) {
        const std::int64_t at = (l + 1) * columns() + k;
        s[at] = turned[l - 1] - middle_(at);
      }
    }
    return s;
  }

  /// m of a bond.
  std::vector<Real> products(const Bond& bond) const {
    const Bond& back = facing(bond);
    const std::vector<Real> own = seen(bond), other = seen(back);
    std::vector<Real> m{1};
    m.insert(m.end(), own.begin(), own.end());
    for (const std::vector<Real>* right : {&own, &other}) {
      for (std::size_t a = 0; a < own.size(); ++a) {
        for (std::size_t b = a; b < own.size(); ++b) m.push_back(own[a] * (*right)[b]);
      }
    }
    for (std::int64_t l = 1; l <= basis_.order; ++l) {
      for (std::int64_t k = 0; k < columns(); ++k) {
        Real sum = 0;
        for (const Bond& one : of_[bond.i]) {
          for (const Bond& two : of_[bond.j]) {
            if (&one == &bond || &two == &back) continue;
            sum += weight(one, k) * weight(two, k) * std::pow(cosine(one, two), l);
          }
        }
        m.push_back(sum);
      }
    }
    for (std::int64_t l = 1; l < basis_.order; ++l) {
      for (std::int64_t k = 0; k < columns(); ++k) {
        Real sum = 0;
        for (const Bond& one : of_[bond.i]) {
          for (const Bond& two : of_[bond.j]) {
            if (&one == &bond || &two == &back) continue;
            sum += weight(one, k) * weight(two, k) * std::pow(cosine(one, two), l) *
                   cosine(one, bond) * cosine(two, back);
          }
        }
        m.push_back(sum);
      }
    }
    return m;
  }

  std::int64_t kind(const Bond& bond) const {
    return species(bond.i) * basis_.species + species(bond.j);
  }

 private:
  std::int64_t columns() const { return basis_.species * basis_.shells; }
  std::int64_t species(std::int64_t i) const { return rows_.species.data ? rows_.species(i) : 0; }
  Real weight(const Bond& bond, std::int64_t column) const {
    return species(bond.j) == column / basis_.shells ? bond.weight[column % basis_.shells] : 0;
  }

  void add(std::int64_t i, std::int64_t e) {
    Bond bond{i, rows_.columns(e), 0, {}, {}};
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
    for (std::int64_t q = 0; q < basis_.shells; ++q) {
      const Real rest = 1 - std::pow(bond.length / basis_.reach, 4 * std::pow(Real{3}, q));
      bond.weight.push_back(rest * rest);
    }
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
        energy += std::cos(static_cast<Real>(a) * kPi * p) * std::pow(1 - p * p, 3) * sum;
      }
    }
    energies(i) = static_cast<double>(energy);
  }
}

}  // namespace mlcore::reference
