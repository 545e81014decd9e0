#pragma once

#include <cstdint>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Functions that an energy of bonds is linear in:
///
///   E = sum_ij t(r_ij) . C . m(s_ij, s_ji)
///
/// over the ordered pairs i -> j closer than the reach R. With p = r / R,
///   t_a = cos(a pi p) (1 - p^2)^3, a < radial, one block of rows of C per pair of species;
///   w_q = (1 - p^e)^2, e = 4 3^q, q < shells, a bond's weight in what is around others.
/// s_ij holds, less `middle`, for every column (species of the atom that a bond leads to, q):
///   sums of w over the other bonds of i; sums over these of w times that of the bonds beyond them;
///   for l = 1..order, sums over these of w times the l-th power of the cosine to i -> j.
/// m holds 1, s_ij, s_ij[a] s_ij[b] and s_ij[a] s_ji[b] for a <= b in row-major order, and for
/// l = 1..order and every column, the sum over another bond of i and another one of j of the
/// product of their w, times the l-th power of their cosine; for l < order the same again, times
/// the cosines of each of both to the bond between i and j, seen from its own end.
///
/// Invariant under turns, mirrors and shifts; forces are continuous at the reach, their slopes are
/// not. After A. V. Shapeev, Multiscale Model. Simul. 14, 1153 (2016) and J. Tersoff, Phys. Rev. B
/// 37, 6991 (1988).
struct BondBasis {
  std::int64_t species = 1;  ///< S
  double reach = 0;          ///< R, > 0
  std::int64_t radial = 8;   ///< 1..64
  std::int64_t order = 3;    ///< 1..6
  std::int64_t shells = 2;   ///< 1..4
};

/// Lengths that follow; S shells (order + 2) is at most 128.
struct BondShape {
  std::int64_t rows;  ///< of C: radial S^2, that of the pair of species (a, b) at (a S + b) radial
  std::int64_t columns;  ///< of C: that of m
  std::int64_t seen;     ///< of s
};
/// @throws InvalidArgument  a number is out of range
MLCORE_API BondShape bond_shape(const BondBasis& basis);

/// Atoms and all pairs of them that may be closer than the reach, each from both ends.
struct BondRows {
  View<const std::int64_t, 1> offsets;  ///< (n + 1,) neighbors of i are offsets(i) ..
  View<const std::int32_t, 1> columns;  ///< (p,) j
  View<const double, 2> vectors;        ///< (p, 3) to them, may be periodic images
  View<const std::int32_t, 1> species;  ///< (n,) in 0..S-1; none: S = 1
  View<const double, 2> displacements;  ///< (n, 3) by which the atoms have moved since; none: 0
};

/// What is asked for beside the energies.
struct BondDirections {
  View<const double, 1>
      weights;                  ///< (n,) of the atoms' energies in the sum that is derived; none: 1
  View<const double, 2> along;  ///< (n, 3) of the atoms; results are then derivatives along it
};

/// Where results go, each overwritten; a view without data is not filled.
struct BondResults {
  View<double, 1> energies;          ///< (n,), of the bonds i -> j of each i
  View<double, 2> by_displacements;  ///< (n, 3) of sum_i weights(i) energies(i)
  View<double, 2> by_coefficients;   ///< (rows, columns) of that sum
};

/// Energies and their gradients, the same bits on any number of threads.
///
/// @param coefficients  C
/// @param middle        (seen,)
/// @throws InvalidArgument  a shape is wrong; a value is not finite; a column or species is out of
///                          range; a pair closer than the reach is there from one end only
MLCORE_API void evaluate_bonds(const Context& context, const BondBasis& basis,
                               View<const double, 2> coefficients, View<const double, 1> middle,
                               const BondRows& rows, const BondDirections& directions,
                               const BondResults& results);

}  // namespace mlcore
