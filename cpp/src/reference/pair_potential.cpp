#include "mlcore/reference/pair_potential.hpp"

#include <algorithm>
#include <cmath>

namespace mlcore::reference {

PairCurve pair_curve(const PairEnergyTable& table, std::int64_t pair, double r) {
  const std::int64_t last = table.energy.shape[1] - 1;
  const double h = (table.cutoff - table.first) / static_cast<double>(last);
  if (r >= table.cutoff) return {0, 0, 0};
  if (r < table.first) {
    const double m = table.slope(pair, 0);
    return {table.energy(pair, 0) + m * (r - table.first), m, 0};
  }
  const double s = (r - table.first) / h;
  const auto k = std::clamp<std::int64_t>(static_cast<std::int64_t>(s), 0, last - 1);
  const double t = s - static_cast<double>(k);
  const double u0 = table.energy(pair, k), u1 = table.energy(pair, k + 1);
  const double m0 = h * table.slope(pair, k), m1 = h * table.slope(pair, k + 1);
  const double t2 = t * t, t3 = t2 * t;
  return {
      (2 * t3 - 3 * t2 + 1) * u0 + (t3 - 2 * t2 + t) * m0 + (3 * t2 - 2 * t3) * u1 + (t3 - t2) * m1,
      ((6 * t2 - 6 * t) * (u0 - u1) + (3 * t2 - 4 * t + 1) * m0 + (3 * t2 - 2 * t) * m1) / h,
      ((12 * t - 6) * (u0 - u1) + (6 * t - 4) * m0 + (6 * t - 2) * m1) / (h * h)};
}

void pair_potential(const PairEnergyTable& table, const PairRows& rows,
                    const PairResults& results) {
  double virial[6] = {};
  for (std::int64_t i = 0; i + 1 < rows.offsets.shape[0]; ++i) {
    double energy = 0;
    for (std::int64_t e = rows.offsets(i); e < rows.offsets(i + 1); ++e) {
      const std::int64_t j = rows.columns(e);
      std::int64_t a = rows.types.data ? rows.types(i) - rows.first_type : 0;
      std::int64_t b = rows.types.data ? rows.types(j) - rows.first_type : 0;
      if (a > b) std::swap(a, b);
      double D[3];
      for (int k = 0; k < 3; ++k) {
        D[k] = rows.vectors.data ? rows.vectors(e, k) : rows.x(j, k) - rows.x(i, k);
      }
      const double r = std::sqrt(D[0] * D[0] + D[1] * D[1] + D[2] * D[2]);
      const std::int64_t pair = a * table.types - a * (a - 1) / 2 + (b - a);
      const PairCurve curve = pair_curve(table, pair, r);
      energy += curve.energy;
      const double pull = r > 0 ? curve.slope / r : 0;
      for (int k = 0; results.forces.data && k < 3; ++k) results.forces(i, k) += pull * D[k];
      for (int k = 0; k < 3; ++k) virial[k] -= pull * D[k] * D[k] / 2;
      virial[3] -= pull * D[0] * D[1] / 2;
      virial[4] -= pull * D[0] * D[2] / 2;
      virial[5] -= pull * D[1] * D[2] / 2;
    }
    if (results.energies.data) results.energies(i) = results.share * energy;
  }
  if (results.virial.data) std::copy(virial, virial + 6, results.virial.data);
}

}  // namespace mlcore::reference
