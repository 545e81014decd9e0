// What a C++ user writes: the self mobility of one sphere in a periodic box, and a Philox block.

#include <cmath>
#include <cstdio>
#include <vector>

#include "mlcore/mobility.hpp"
#include "mlcore/random.hpp"

int main() {
  mlcore::MobilityModel model;
  model.kernel = mlcore::Kernel::rpy;
  model.radius = 2;
  model.viscosity = 2.497;
  const std::vector<double> x{1, 2, 3};
  std::vector<double> m(9);
  const mlcore::View<const double, 2> positions(x.data(), {1, 3});
  const mlcore::View<double, 2> matrix(m.data(), {3, 3});
  mlcore::mobility_matrix({}, model, mlcore::Cell::cubic(24), positions, matrix);
  const bool philox = mlcore::philox4x32({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5u;
  const bool hasimoto = std::fabs(m[0] - 8.14e-3) < 1e-5 && std::fabs(m[1]) < 1e-12;
  std::printf("mlcore %s: mobility %.6f\n", mlcore::version(), m[0]);
  return philox && hasimoto ? 0 : 1;
}
