#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

constexpr int kMostSeen = 128;      // lengths of s
constexpr int kMostMonomials = 84;  // of x, y, z up to the sixth degree

/// Monomials of x, y, z by degree: each is another one times an axis.
struct Monomials {
  int count;                 // that of degree 0 included
  int first[8];              // of each degree, and one beyond
  int less[kMostMonomials];  // the one without the axis
  int axis[kMostMonomials];
  int more[kMostMonomials][3];    // times each axis, below the highest degree
  double factor[kMostMonomials];  // multinomial coefficient
};

struct BondPlan {
  int species, radial, order, shells;
  int columns;  // Q = species * shells
  int seen;     // Q (order + 2)
  int across;   // Q (2 order - 1)
  int leaning;  // Q times the monomials of degrees 1..order - 1
  int terms;    // columns of C
  double reach;
  Monomials monomials;
  const double* coefficients;  // (species^2, terms, radial)
  const double* middle;        // (seen,)
};

/// Memory of one evaluation. A number is a vector over bonds, or with derivatives two: its value
/// and its tangent. Arrays over bonds are (blocks, entries, number), over atoms (n, entries, 1 or
/// 2).
struct BondJob {
  std::int64_t bonds, blocks, atoms;
  const std::int64_t* first;  // (atoms + 1,) bonds of the atoms
  const std::int32_t* i;      // (blocks * lanes,) of the bonds; beyond `bonds` 0
  const std::int32_t* j;
  const std::int32_t* back;  // the same bond from its other end
  const std::int32_t* species;
  const double* vectors;  // (blocks, 3, lanes), beyond `bonds` as long as the reach
  const double* along;    // the same, or null: no derivatives
  const double* weights;  // (atoms,)
  bool gradient;          // whether more than energies is wanted
  // over bonds
  double* unit;       // 3: direction
  double* length;     // 2: r / R, 1 / r
  double* shell;      // shells: w
  double* cosine;     // order Q: sums of w cos^l over all bonds of i
  double* around;     // seen: s
  double* energy;     // 1
  double* by_own;     // seen: slopes by s_ij, then with those seen from the other end
  double* by_other;   // seen: slopes by s_ji
  double* leaning;    // sums of w cos u^e over the other bonds of i
  double* by_across;  // across
  double* by_both;    // order Q: by_across of both ends
  double* by_leaning;
  double* by_length;  // 1: slope by r / R through t
  double* slope;      // 3
  // over atoms
  double* moments;     // Q monomials: sums of w u^e
  double* beyond;      // Q
  double* by_moments;  // Q monomials
  double* by_beyond;   // Q
};

MLCORE_DECLARE_PER_ISA(
    int bond_lanes();
    // Directions, lengths and weights of the bonds of blocks begin..end-1.
    void bond_geometry(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                       std::int64_t end);
    // Sums over the bonds of atoms begin..end-1.
    void bond_moments(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                      std::int64_t end);
    void bond_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);
    void bond_around(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);
    // Energies, slopes; adds to by_coefficients (species^2, terms, radial, lanes) where not null.
    void bond_energies(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                       std::int64_t end, double* by_coefficients);
    void bond_gather(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);
    void bond_by_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                        std::int64_t end);
    void bond_by_moments(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                         std::int64_t end);
    void bond_slopes(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);)

}  // namespace mlcore::kernels
