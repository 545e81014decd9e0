#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Functions that an energy of bonds is linear in:
///
///   E = sum_ij t(r_ij) . C . m(s_ij, s_ji)
///
/// over the ordered pairs i -> j closer than the reach R. A bond counts
///
///   w = 1 below `inner`, (1 + cos(pi (r - inner) / (R - inner))) / 2 from there to R;
///   t_a = w y^a, y = exp(decay (1 - r / R)), a < radial,
///
/// t has one block of rows of C per pair of species. s_ij holds, less `middle`, for every species
/// of the atom that a bond leads to:
///   n: sum of w over the other bonds of i;
///   b: sum over these of w times that of the bonds beyond them;
///   a_l: sums of w times the l-th power of the cosine to i -> j, l = 1..order;
///   a_k: sum of w times max(0, cosine - knot)^3: powers up to the third make a spline with it.
/// d_l, l = 1..turns, are sums over another bond of i and another one of j, which lead to atoms of
/// one species, of the product of their w, times the l-th power of cos(omega), the cosine by which
/// both are turned around i -> j. It is divided by the roots of both squared sines to the axis;
/// those x below 0.1 are taken as 0.05 + 5 x^2.
/// m holds, in this order,
///   products of up to `degree` of n, a_l and a_k of s_ij;
///   products of up to three of n and b of s_ij and s_ji, but those that are there already;
///   d_l times products of up to two of n of s_ij and s_ji.
/// Of two that are mirror images, i and j exchanged, the first is there. Products stand by their
/// number of factors, then in lexicographic order; factors in that of s, s_ji after s_ij.
///
/// The form of the bond orders of D. W. Brenner et al., J. Phys.: Condens. Matter 14, 783 (2002)
/// and J. Tersoff, Phys. Rev. B 37, 6991 (1988), all numbers of it left to be learned. Invariant
/// under turns, mirrors and shifts; forces are continuous.
struct BondBasis {
  std::int64_t species = 1;  ///< S
  double reach = 0;          ///< R, > 0
  double inner = 0;          ///< 0 <= inner < R
  std::int64_t radial = 5;   ///< 1..16
  std::int64_t order = 3;    ///< 1..6
  std::int64_t turns = 5;    ///< 1..8
  std::int64_t degree = 3;   ///< 1..3
  double decay = 3;          ///< 0 < decay <= 16
  double knot = -0.5;        ///< -1 <= knot < 1
};

/// Lengths that follow; S (order + 3) and S turns are at most 64, columns at most 4096.
struct BondShape {
  std::int64_t rows;  ///< of C: radial S^2, that of the pair of species (a, b) at (a S + b) radial
  std::int64_t columns;  ///< of C: that of m
  std::int64_t seen;     ///< of s: n of all species, then b, a_1, .., a_k
};
/// @throws InvalidArgument  a number is out of range
MLCORE_API BondShape bond_shape(const BondBasis& basis);
/// Factors of every entry of m: 0 is 1, from 1 on stands s_ij, then s_ji, then d.
MLCORE_API std::vector<std::array<std::int64_t, 3>> bond_products(const BondBasis& basis);

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
