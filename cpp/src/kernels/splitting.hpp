#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// How the nearest image is found: not at all, axis by axis, by fractions of the cell.
enum class ImageKind : int { open, straight, slanted };

/// A step as it is read. Tables are one after the other, a row per interval.
struct SplittingPlan {
  int kicks;
  const double* drift;        // (kicks + 1,) times h
  const std::int64_t* table;  // (kicks,) first row of what a kick reads
  const double* rows;         // (.., 4)
  const std::int64_t*
      start;           // (species, stride) first row of a pair in a table; rows of 8 at least
  const double* push;  // (species,) h / m
  std::int64_t species, stride, intervals;
  double u_lo, u_hi, per_u;
  double cutoff_square, closest_square;
};

/// Where it happens; edges of open axes have the inverse zero.
struct SplittingSpace {
  ImageKind images;
  double edge[3], inverse_edge[3];
  double cell[9], inverse_cell[9];  // the inverse with zero columns for open axes
  double wall;                      // radius; 0: none
  double farthest;                  // what a coordinate must stay below
};

/// One replica for all pairs. Arrays are `wide` = n + padded n long; after the particles of x come
/// the same ones once more, so that pairs i, i + s lie next to each other for all i.
struct SplittingReplica {
  std::int64_t n, padded, wide;
  double *x, *v;               // (3, wide)
  double *before, *pushes;     // (6, wide) room each
  const double* push;          // (padded,) h / m; 0 pads
  const std::int64_t* starts;  // (n / 2, padded) first row of the pair i, i + s of row s - 1; not
                               // read for one species
  const double* far;           // (wide,) 0 for n places, then a square distance beyond the cutoff
};

/// Rows of neighbors; see PairJob.
struct SplittingRows {
  const double* places;  // (m, 4): x, y, z and the species, an integer
  std::int64_t particles;
  const std::int64_t* offsets;
  const std::int32_t* columns;
  std::int64_t pairs;
  bool checked;  // columns are known to be particles
  double* v;     // (n, 3)
};

MLCORE_DECLARE_PER_ISA(
    // Lanes of a vector of doubles.
    int splitting_lanes();
    // Up to `steps` steps, those that are good; the number of them. Lowers the square of the
    // smallest distance; status as SplittingStatus.
    std::int64_t splitting_steps(const SplittingPlan& plan, const SplittingSpace& space,
                                 const SplittingReplica& replica, std::int64_t steps,
                                 double* closest_square, int* status);
    // Adds a kick to the velocities of rows begin..end-1, lowers the square of the smallest
    // distance. The first row whose neighbors are no particles, or -1.
    std::int64_t splitting_kick(const SplittingPlan& plan, int stage, const SplittingRows& rows,
                                std::int64_t begin, std::int64_t end, double* closest_square);
    // x += drift v for particles begin..end-1 of (n, 3); returns the largest square of the distance
    // from `start`, NaN where one is NaN.
    double splitting_drift(const SplittingSpace& space, double drift, std::int64_t begin,
                           std::int64_t end, double* x, double* v, const double* start);)

}  // namespace mlcore::kernels
