#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

constexpr int kMostSeen = 64;    // lengths of s, and of d
constexpr int kMostRadial = 16;  // functions of a length
constexpr int kMostPowers = 8;
constexpr double kLeastSquare = 1e-4;  // A^2, below which lengths are taken as its root
constexpr double kLeastSine = 0.1;     // squared sines below it are taken as larger

/// Factors of an entry of m: 0 is 1, from 1 on s_ij, then s_ji, then d.
struct BondProduct {
  std::int16_t factors[3];
};

struct BondPlan {
  int species, radial, order, turns;
  int seen;    // species (order + 3)
  int across;  // species turns
  int terms;   // columns of C
  double reach, inner, decay, knot;
  const BondProduct* products;  // (terms,)
  const double* coefficients;   // (species^2, terms, radial)
  const double* middle;         // (seen,)
};

/// Memory of one evaluation. A number is a vector over bonds, or with derivatives two: its value
/// and its tangent. Arrays over bonds are (blocks, entries, number), over atoms (n, entries, 1 or
/// 2), over others (count, 4, 1 or 2).
struct BondJob {
  std::int64_t bonds, blocks, atoms;
  const std::int64_t* first;   // (atoms + 1,) bonds of the atoms
  const std::int64_t* others;  // (atoms + 1,) of the others that the bonds of an atom see
  const std::int32_t* i;       // (blocks * lanes,) of the bonds; beyond `bonds` 0
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
  double* counted;    // 2: w, its slope by r / R
  double* ahead;      // species: w times those of the bonds beyond
  double* around;     // seen: s
  double* energy;     // 1
  double* by_own;     // seen: slopes by s_ij, then with those seen from the other end
  double* by_other;   // seen: slopes by s_ji
  double* by_across;  // across, then of both ends
  double* by_both;    // across
  double* by_length;  // 1: slope by r / R through t
  double* by_turned;  // 4: slopes by the direction and w through cosines
  double* slope;      // 3
  // over others
  double* by_others;  // slopes by direction and w of another bond of the atom
  // over atoms
  double* count;      // species: sums of w
  double* beyond;     // species
  double* by_beyond;  // species
  double* by_count;   // species
};

MLCORE_DECLARE_PER_ISA(
    int bond_lanes();
    // Directions, lengths and weights of the bonds of blocks begin..end-1.
    void bond_geometry(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                       std::int64_t end);
    // Sums over the bonds of atoms begin..end-1.
    void bond_count(const BondPlan& plan, const BondJob& job, std::int64_t begin, std::int64_t end);
    void bond_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);
    void bond_around(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);
    // Energies, slopes; adds to by_coefficients (species^2, terms, radial, lanes) where not null.
    void bond_energies(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                       std::int64_t end, double* by_coefficients);
    void bond_gather(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);
    void bond_by_others(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                        std::int64_t end);
    void bond_by_beyond(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                        std::int64_t end);
    void bond_by_count(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                       std::int64_t end);
    void bond_slopes(const BondPlan& plan, const BondJob& job, std::int64_t begin,
                     std::int64_t end);)

}  // namespace mlcore::kernels
