#include "kernels/mobility_radial.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace {

using namespace mlcore::kernels;

TEST(MobilityRadial, ExponentialIsExactToRounding) {
  for (double y = 0; y < 700; y += 0.0317) {
    EXPECT_NEAR(exp_of_minus(y) / std::exp(-y), 1, 4e-16) << y;
  }
}

TEST(MobilityRadial, ScaledErfcIsExactToRounding) {
  for (double x = 0; x < 8; x += 0.00073) {
    const long double exact = std::exp(static_cast<long double>(x) * x) * std::erfc((long double)x);
    EXPECT_NEAR(static_cast<double>(scaled_erfc(x, 1 / ((x + 3.75) * (1 + 2 * x))) / exact), 1,
                2e-15)
        << x;
  }
}

// The smooth part is erf(xi r)/r + 2 xi/sqrt(pi) exp(-xi^2 r^2) for the Oseen tensor across r.
TEST(MobilityRadial, SmoothPartIsExactToRounding) {
  for (double xi : {0.1, 0.7, 3.0}) {
    RadialParameters p{};
    p.xi = xi;
    p.xi2 = xi * xi;
    p.smooth = 2 * xi / std::sqrt(std::numbers::pi);
    for (double x = 1e-4; x < 6; x += 0.0007) {
      const double r = x / xi;
      const double exact = std::erf(x) / r + p.smooth * std::exp(-x * x);
      EXPECT_NEAR(smooth_pair(p, r * r).f / exact, 1, 3e-15) << x;
    }
    EXPECT_DOUBLE_EQ(smooth_pair(p, 0.0).f, 2 * p.smooth);
  }
}

}  // namespace
