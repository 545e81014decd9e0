#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Potentials of one coordinate, besides the harmonic one.
enum class Landscape : int { none, lennard_jones, double_well, rugged };

enum class WallKind : int { none, specular, wca };

/// A particle system and how it is stepped. Where cutoff2 is infinite and box zero, all pairs
/// interact once. Stage s of a step: v += kick[s] f, x += drift[s] v, new f; the step ends with
/// v += kick[stages] f.
struct VerletPlan {
  int stages;
  const double* drift;  // (stages,)
  double trap;          // stiffness
  Landscape landscape;
  double landscape12, landscape6;  // 48 eps sigma^12, 24 eps sigma^6
  bool pairs;
  double pair12, pair6;  // 48 eps sigma^12, 24 eps sigma^6
  double cutoff2;
  double box, inverse_box;  // of the cubic box; zero: open
  WallKind wall;
  double wall_radius, wall_sigma, wall_reach;  // reach: 2^(1/6) sigma
  double wall_strength;                        // 24 eps
};

MLCORE_DECLARE_PER_ISA(
    // Lanes of a vector of doubles.
    int dynamics_lanes();
    // As many replicas of n particles in d dimensions as a vector has lanes, `steps` steps. x, v, f
    // are (n, d, lanes), kick is (stages + 1, n, lanes); f holds the forces at x before and after.
    void verlet_replicas(const VerletPlan& plan, int n, int d, std::int64_t steps, double* x,
                         double* v, double* f, const double* kick);
    void forces_replicas(const VerletPlan& plan, int n, int d, const double* x, double* f);
    // One replica: x, v, f are (d, padded n), kick is (stages + 1, padded n). What pads has kick 0
    // and lies 1e8 apart. `eye` is (n + padded n,): zeros but for 1e30 at place n, with which
    // a particle is kept from itself.
    void verlet_particles(const VerletPlan& plan, std::int64_t n, std::int64_t padded, int d,
                          std::int64_t steps, double* x, double* v, double* f, const double* kick,
                          const double* eye);
    void forces_particles(const VerletPlan& plan, std::int64_t n, std::int64_t padded, int d,
                          const double* x, double* f, const double* eye);
    // The pieces of a step with a neighbor list, for particles begin..end-1 of (3, padded n).
    // `shift` (pairs, 3), or null: the nearest image. Pairs of i: offsets[i] .. offsets[i + 1] - 1
    // of j, which may be read 8 entries further.
    void forces_listed(const VerletPlan& plan, std::int64_t padded, int d, std::int64_t begin,
                       std::int64_t end, const double* x, const std::int64_t* offsets,
                       const std::int32_t* j, const double* shift, double* f);
    // v += kick f, x += drift v; returns the largest square of the distance from `start`.
    double kick_and_drift(const VerletPlan& plan, std::int64_t padded, int d, std::int64_t begin,
                          std::int64_t end, double drift, double* x, double* v, const double* f,
                          const double* kick, const double* start);
    void kick(std::int64_t padded, int d, std::int64_t begin, std::int64_t end, double* v,
              const double* f, const double* kick);)

}  // namespace mlcore::kernels
