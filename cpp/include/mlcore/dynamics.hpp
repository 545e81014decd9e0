#pragma once

#include <array>
#include <cstdint>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/mobility.hpp"
#include "mlcore/noise.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Energy of a pair at the distance r below `cutoff`, shifted to zero there; the force is cut off,
/// not smoothed. In periodic boxes every image within the cutoff counts.
struct PairForce {
  enum class Kind : int {
    yukawa = 0,         ///< strength exp(-r / length) / r
    lennard_jones = 1,  ///< 4 strength ((length / r)^12 - (length / r)^6)
  };
  Kind kind = Kind::yukawa;
  double strength = 0;
  double length = 1;
  double cutoff = 0;
};

/// Sum of external and pair forces.
struct ForceField {
  View<const double, 2> constant;  ///< (n, 3) force on each particle; empty: none
  double stiffness = 0;            ///< harmonic trap: -stiffness (x - centre), unwrapped x
  View<const double, 2> centres;   ///< (1, 3) one centre, or (n, 3) one each; empty: the origin
  View<const PairForce, 1> pairs;  ///< summed
};

/// Forces F (n, 3) at x (n, 3); returns the potential energy (a constant force has -F . x). x and F
/// may lie on a GPU, the arrays of the field always in CPU memory.
/// @throws InvalidArgument  a shape or parameter is wrong, x is not finite
MLCORE_API double force_field(const Context& context, const ForceField& field, const Cell& cell,
                              View<const double, 2> x, View<double, 2> F);

enum class Scheme : int {
  /// x += dt (M F + kT div M) + sqrt(2 kT dt) L xi, everything at the start of the step
  /// (Ermak and McCammon, J. Chem. Phys. 69, 1352 (1978)).
  euler_maruyama = 0,
  /// Half a step to x', then x += dt M' F' + sqrt(2 kT dt) M' L^-T xi with the same xi: the drift
  /// kT div M comes out by itself (Fixman, J. Chem. Phys. 69, 1527 (1978)).
  midpoint = 1,
};

struct BrownianOptions {
  double dt = 0;           ///< > 0
  double kT = 1;           ///< >= 0
  std::int64_t every = 1;  ///< steps between frames, >= 1
  bool drift = true;       ///< false drops kT div M (euler_maruyama only): wrong on purpose
  /// > 0: kT div M from one random displacement of this length per step (euler_maruyama only),
  /// kT [M(x + d w/2) - M(x - d w/2)] w / d with w normal, right on average (Delong, Usabiaga,
  /// Delgado-Buscalioni, Griffith and Donev, J. Chem. Phys. 140, 134110 (2014)). 0: exact.
  double random_finite_difference = 0;
  Scheme scheme = Scheme::euler_maruyama;
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;  ///< replica r uses stream + r
  Indefinite psd = Indefinite::error;
  /// Longest step a particle may take, else the run has blown up; 0: the longest pair cutoff, or
  /// no limit without pair forces.
  double max_displacement = 0;
  /// Square root of M in the noise (SqrtOptions). cholesky holds M, 9 n^2 numbers, and factors it;
  /// the others (euler_maruyama only) take M F and the noise from products with M, which is then
  /// formed only where sqrt_apply does. Trajectories of two methods differ, their laws do not.
  SqrtMethod noise = SqrtMethod::cholesky;
  double noise_tolerance = 1e-3;  ///< of lanczos and chebyshev, see SqrtOptions
};

/// Overdamped Brownian motion: fills frames first + 1 .. last from frame `first`.
///
/// Step k (counted from frame 0, which is step 0) uses random_normal(seed, stream + replica, k,
/// tags 0..n-1), so a trajectory may be made in pieces and does not depend on the thread count.
/// Replicas run in parallel. Frames on a GPU are made there by the same steps, Cholesky by
/// cuSOLVER: the same trajectory to rounding; replicas then run one after the other.
///
/// @param frames  R trajectories of T frames: (R, T, n, 3), unwrapped coordinates
/// @throws InvalidArgument      a parameter or shape is wrong
/// @throws NotPositiveDefinite  the mobility has no square root somewhere on the way
/// @throws BackendUnavailable   frames on a GPU in a build without CUDA, or no cuSOLVER there
/// @throws Error                a position became NaN or a step too long, naming replica, step and
///                              particle
MLCORE_API void brownian(const Context& context, const MobilityModel& model, const Cell& cell,
                         const ForceField& field, const BrownianOptions& options,
                         View<double, 4> frames, std::int64_t first, std::int64_t last);

/// A potential of one coordinate, for systems in one dimension.
struct Landscape {
  enum class Kind : int {
    none = 0,
    lennard_jones = 1,  ///< 4 epsilon ((sigma / x)^12 - (sigma / x)^6)
    double_well = 2,    ///< x^4 / 4 - x^2 / 2
    rugged = 3,         ///< (x^4 - x^3 - 16 x^2 + 4 x + 48) / 50 + sin(30 (x + 5)) / 5
  };
  Kind kind = Kind::none;
  double epsilon = 1;
  double sigma = 1;
};

/// A sphere about the origin that holds the particles.
struct SphericalWall {
  enum class Kind : int {
    none = 0,
    specular = 1,  ///< reflects, at the exact place and time on the straight way of a step
    wca = 2,       ///< 4 epsilon ((sigma / s)^12 - (sigma / s)^6) + epsilon for s < 2^(1/6) sigma
  };  ///< with s = radius - |x|
  Kind kind = Kind::none;
  double radius = 0;
  double epsilon = 1;
  double sigma = 1;
};

/// Particles that attract and repel, in 1 to 3 dimensions.
struct ParticleSystem {
  double trap = 0;      ///< stiffness: trap |x|^2 / 2 each, about the origin, on unwrapped x
  Landscape landscape;  ///< of each particle; in one dimension
  double epsilon = 0;   ///< Lennard-Jones pairs 4 epsilon ((sigma/r)^12 - (sigma/r)^6); 0: none
  double sigma = 1;     ///< > 0
  double cutoff = 0;    ///< of the pair force, whose energy is shifted to zero there; 0: none
  double box = 0;       ///< edge of a periodic cube; every image within the cutoff counts; 0: open
  SphericalWall wall;   ///< not with a box
};

/// Forces F (R, n, d) of a system at x (R, n, d) and potential energies (R,), either of which may
/// be empty: not wanted. Arrays on a GPU are worked on there, by all pairs; a cutoff must not
/// exceed half the box then.
/// @throws InvalidArgument  a parameter or shape is wrong, x is not finite
MLCORE_API void system_forces(const Context& context, const ParticleSystem& system,
                              View<const double, 3> x, View<double, 3> F, View<double, 1> energies);

/// Product of the symmetric matrix dF/dx (R, n d, n d) with g (R, n, d), for systems of a trap and
/// pairs. GPUs as `system_forces`.
MLCORE_API void system_force_gradient(const Context& context, const ParticleSystem& system,
                                      View<const double, 3> x, View<const double, 3> g,
                                      View<double, 3> product);

enum class Integrator : int {
  /// v += dt f / 2m, x += dt v, v += dt f' / 2m (Swope, Andersen, Berens and Wilson, J. Chem. Phys.
  /// 76, 637 (1982)); order 2.
  velocity_verlet = 0,
  /// 17 velocity-Verlet steps per step, symmetric composition of order 8 (Kahan and Li, Math. Comp.
  /// 66, 1089 (1997), s17odr8a). Its order is lost at walls and cutoffs.
  order8 = 1,
};

struct VerletOptions {
  double dt = 0;           ///< > 0
  std::int64_t every = 1;  ///< steps between frames, >= 1
  Integrator integrator = Integrator::velocity_verlet;
  double skin = 0;  ///< of the neighbor list used for many particles; 0: 0.4 sigma
};

/// Newton's equations for R replicas of n particles in d dimensions: fills frames first + 1 .. last
/// from frame `first`, and energies (potential, kinetic) of frames first .. last.
///
/// A replica moves as it would alone, bit by bit, on any number of threads, in any pieces. From 129
/// particles with a cutoff on, forces come from a neighbor list in O(n). Replicas run in parallel,
/// lone large ones by particles. Views on the GPU run there (n <= 1024, all pairs).
///
/// @param masses     (1, n) or (R, n), > 0
/// @param positions  (R, T, n, d), unwrapped
/// @param velocities (R, T, n, d)
/// @param energies   (R, T, 2), or empty: not wanted
/// @throws InvalidArgument  a parameter or shape is wrong, a start is not finite or outside the
/// wall
/// @throws Error            the run has blown up, naming replica and frame
MLCORE_API void verlet(const Context& context, const ParticleSystem& system,
                       const VerletOptions& options, View<const double, 2> masses,
                       View<double, 4> positions, View<double, 4> velocities,
                       View<double, 3> energies, std::int64_t first, std::int64_t last);

}  // namespace mlcore
