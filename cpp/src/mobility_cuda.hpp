#pragma once

// The CUDA side of mobility: cuda/mobility.cu, or cuda/stub.cpp without nvcc. Arguments are
// checked.

#include "mlcore/mobility.hpp"

namespace mlcore::cuda {

void mobility_matrix(const Context& context, const MobilityModel& model, const Cell& cell,
                     View<const double, 3> x, View<double, 3> M);
void mobility_matrix(const Context& context, const MobilityModel& model, const Cell& cell,
                     View<const float, 3> x, View<float, 3> M);
void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                    View<const double, 3> x, View<const double, 3> F, View<double, 3> V);
void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                    View<const float, 3> x, View<const float, 3> F, View<float, 3> V);
void mobility_divergence(const Context& context, const MobilityModel& model, const Cell& cell,
                         View<const double, 3> x, View<double, 3> D);
void mobility_divergence(const Context& context, const MobilityModel& model, const Cell& cell,
                         View<const float, 3> x, View<float, 3> D);

}  // namespace mlcore::cuda
