#include "mlcore/cell.hpp"

#include <gtest/gtest.h>

namespace {

using mlcore::Cell;

TEST(Cell, CompletesOpenAxes) {
  Cell cell;
  cell.rows = {0, 0, 0, 0, 5, 1, 0, 0, 0};
  cell.pbc = {false, true, false};
  const Cell full = mlcore::completed(cell);
  EXPECT_GT(std::fabs(mlcore::determinant(full.rows)), 1.0);
  EXPECT_EQ(full.rows[4], 5);
}

TEST(Cell, RejectsDegenerateCells) {
  Cell cell;
  cell.pbc = {true, false, false};
  EXPECT_THROW(mlcore::completed(cell), mlcore::InvalidArgument);
  cell.rows = {1, 0, 0, 2, 0, 0, 0, 0, 1};
  cell.pbc = {true, true, true};
  EXPECT_THROW(mlcore::completed(cell), mlcore::InvalidArgument);
  cell.rows[0] = NAN;
  EXPECT_THROW(mlcore::completed(cell), mlcore::InvalidArgument);
}

TEST(Cell, InverseAndHeights) {
  Cell cell{{4, 0, 0, 1, 5, 0, -1, 2, 6}, {true, true, true}};
  const auto inv = mlcore::inverse(cell.rows);
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      double sum = 0;
      for (int k = 0; k < 3; ++k) sum += cell.rows[3 * i + k] * inv[3 * k + j];
      EXPECT_NEAR(sum, i == j, 1e-14);
    }
  }
  EXPECT_NEAR(mlcore::heights(cell)[2], 6, 1e-14);
}

TEST(Cell, WrapsToFractionsBelowHalf) {
  Cell cell{{4, 0, 0, 1, 5, 0, -1, 2, 6}, {true, true, false}};
  const auto inv = mlcore::inverse(cell.rows);
  double d[3] = {11.3, -23.7, 40.0};
  mlcore::wrap_displacement(cell, inv, d);
  EXPECT_NEAR(d[2], 40.0, 1e-12);
  for (int axis = 0; axis < 2; ++axis) {
    const double f = d[0] * inv[axis] + d[1] * inv[3 + axis] + d[2] * inv[6 + axis];
    EXPECT_GE(f, -0.5 - 1e-12);
    EXPECT_LT(f, 0.5 + 1e-12);
  }
}

}  // namespace
