#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/mobility.hpp"

namespace mlcore::reference {

/// mobility_matrix, one pair and one image at a time. Periodic RPY and Oseen follow Beenakker's
/// splitting (J. Chem. Phys. 85, 1581 (1986)), which differs from the one of the fast version;
/// `model.splitting` sets its parameter (0: 2 / V^(1/3)).
MLCORE_API void mobility_matrix(const MobilityModel& model, const Cell& cell,
                                View<const double, 2> x, View<double, 2> M);

/// mobility_apply by way of the matrix.
MLCORE_API void mobility_apply(const MobilityModel& model, const Cell& cell,
                               View<const double, 2> x, View<const double, 2> F, View<double, 2> V);

/// mobility_divergence, one pair and one image at a time.
MLCORE_API void mobility_divergence(const MobilityModel& model, const Cell& cell,
                                    View<const double, 2> x, View<double, 2> D);

}  // namespace mlcore::reference
