#pragma once

#include <array>
#include <cstdint>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Voxels of a cell. Voxel v covers the fractions [v/n, (v+1)/n) of each cell vector and is sampled
/// at its centre (v + 1/2)/n. The cell needs three vectors, along open axes too.
struct VoxelGrid {
  std::array<std::int64_t, 3> shape{};  ///< voxels along each cell vector, 1 .. 2^30
  Cell cell;
};

/// @throws InvalidArgument  the shape is out of bounds, the cell lacks a vector or is flat
MLCORE_API void check_voxel_grid(const VoxelGrid& grid);

/// How a point is shared out among voxels. With u the position in units of voxels and
/// d_a = (v_a + 1/2) - u_a, the weights of the first three are products over the axes of
/// (Hockney and Eastwood, Computer Simulation Using Particles, 1988, section 5-2)
///   nearest  1 in the voxel that holds the point
///   cic      1 - |d|                                            |d| < 1
///   tsc      3/4 - d^2  |d| < 1/2;   (3/2 - |d|)^2 / 2          |d| < 3/2
/// and the others depend on the distance r of a voxel's centre from the point
///   gaussian  exp(-r^2 / (2 sigma^2))
///   sphere    S((radius + edge/2 - r) / edge), S(t) = t^3 (10 - 15 t + 6 t^2) held in 0..1;
///             with a sharp edge 1 for r <= radius (1 + 1e-9)
enum class VoxelScheme : int { nearest = 0, cic = 1, tsc = 2, gaussian = 3, sphere = 4 };

/// The weights of a point sum to 1 over all voxels, those outside an open axis included, which are
/// then dropped. A Gaussian takes, along each axis, the fewest sample points next to the point that
/// hold the sphere of radius truncation * sigma. A sphere without any sample point inside goes to
/// the voxel that holds its centre.
struct VoxelKernel {
  VoxelScheme scheme = VoxelScheme::cic;
  double sigma = 0;       ///< of a Gaussian, in units of length
  double truncation = 4;  ///< of a Gaussian, in units of sigma
  double radius = 0;      ///< of a sphere
  double edge = 0;        ///< width of a sphere's edge, 0 (sharp) .. 2 * radius
};

enum class VoxelLayout : int { channels_first = 0, channels_last = 1 };

struct VoxelOptions {
  bool density = false;  ///< weights sum to 1 / (volume of a voxel)
  VoxelLayout layout = VoxelLayout::channels_first;
  /// On a GPU: false adds with atomics, in no fixed order. On the CPU the order is always that of
  /// the points, whatever the thread count.
  bool deterministic = true;
};

/// Points of one or several systems, all on grids alike.
struct VoxelPoints {
  View<const double, 2> x;              ///< (n, 3)
  View<const std::int64_t, 1> offsets;  ///< (systems + 1,) system s is offsets(s)..offsets(s + 1);
                                        ///< CPU memory; none: one system
  /// (n, 3) or none. With it, all weights w are replaced by the derivatives direction . dw/dx.
  View<const double, 2> direction;
};

/// Fields have the shape (systems, channels, X, Y, Z) or (systems, X, Y, Z, channels).
/// All of these throw InvalidArgument for shapes that do not fit, a bad grid or kernel, positions
/// that are not finite or more than 2^30 cells away, and derivatives of `nearest` or of a sphere
/// with a sharp edge.

/// field(v) = sum_p w_v(x_p) features(p)
template <class T>
MLCORE_API void rasterize(const Context& context, const VoxelGrid& grid, const VoxelKernel& kernel,
                          const VoxelPoints& points, View<const T, 2> features, View<T, 5> field,
                          const VoxelOptions& options = {});

/// out(p) = sum_v w_v(x_p) field(v), the adjoint of rasterize.
template <class T>
MLCORE_API void gather(const Context& context, const VoxelGrid& grid, const VoxelKernel& kernel,
                       const VoxelPoints& points, View<const T, 5> field, View<T, 2> out,
                       const VoxelOptions& options = {});

/// out(p) = sum_v dw_v/dx_p (features(p) . field(v)), the gradient of <rasterize(features), field>
/// with respect to the positions.
template <class T>
MLCORE_API void voxel_position_gradient(const Context& context, const VoxelGrid& grid,
                                        const VoxelKernel& kernel, const VoxelPoints& points,
                                        View<const T, 2> features, View<const T, 5> field,
                                        View<double, 2> out, const VoxelOptions& options = {});

/// Points sorted into voxels. Voxels are counted in row-major order.
struct VoxelBins {
  View<std::int64_t, 1> cell;    ///< (n,) voxel of each point
  View<double, 2> offset;        ///< (n, 3) place in it, fractions in [0, 1)
  View<std::int32_t, 2> image;   ///< (n, 3) cells the point lies away; 0 along open axes
  View<std::int64_t, 2> ulps;    ///< (n, 3) steps between doubles from what `unbin_atoms` makes of
                                 ///< the above to the position
  View<std::int64_t, 1> order;   ///< (n,) points by voxel, those of one voxel as they came
  View<std::int64_t, 1> starts;  ///< (X Y Z + 1,) voxel v holds order(starts(v)..starts(v+1)-1)
};

/// @throws InvalidArgument  as above; a position outside the grid along an open axis
MLCORE_API void bin_atoms(const Context& context, const VoxelGrid& grid, View<const double, 2> x,
                          const VoxelBins& bins);

/// Positions (n, 3) from voxels; equal to those binned bit for bit when `ulps` is given, on every
/// backend. Leave it out where the offsets were changed.
MLCORE_API void unbin_atoms(const Context& context, const VoxelGrid& grid,
                            View<const std::int64_t, 1> cell, View<const double, 2> offset,
                            View<const std::int32_t, 2> image, View<const std::int64_t, 2> ulps,
                            View<double, 2> x);

}  // namespace mlcore
