#pragma once

// Mobilities in open space without a table: tiles of particles, every pair computed once.

#include <cmath>

#include "kernels/mobility_open.hpp"
#include "mlcore/mobility.hpp"

namespace mlcore::detail {

/// Whether a kernel in this cell is one of kernels::OpenKind.
bool has_open_kernel(const MobilityModel& model, const Cell& cell);

/// Whether the kernels of open space do the work; Oseen and RPY of one radius go with their table.
bool takes_open_path(const MobilityModel& model, const Cell& cell);

/// The model without its kernel.
MobilityModel table_of(const MobilityModel& model);

kernels::OpenKind open_kind(const MobilityModel& model);

template <class Real>
kernels::OpenParameters<Real> open_parameters(const MobilityModel& model);

/// The block of M on the diagonal, without `self`: xx xy xz yy yz zz. z is the height over the
/// wall.
void open_self_block(const MobilityModel& model, std::int64_t i, double z, double self[6]);

/// Throws InvalidArgument where positions are wrong for the kernel.
template <class Real>
void check_open_positions(const MobilityModel& model, View<const Real, 2> x);

/// Fills M, or adds to it.
template <class Real>
void open_matrix(const Context& context, const MobilityModel& model, View<const Real, 2> x,
                 View<Real, 2> M, bool add);

/// Fills V, or adds to it. Allocates nothing.
template <class Real>
void open_apply(const Context& context, const MobilityModel& model, View<const Real, 2> x,
                View<const Real, 2> F, View<Real, 2> V, bool add);

/// Adds the divergence of a kernel. That no particles coincide is looked for elsewhere.
void add_open_divergence(const MobilityModel& model, View<const double, 2> x, View<double, 2> D);

/// Throws InvalidArgument when a position is not finite, or so large that powers of it are not.
template <class Real>
void check_positions(View<const Real, 2> x) {
  constexpr bool kSingle = sizeof(Real) == 4;
  constexpr Real kLargest = static_cast<Real>(kSingle ? 1e15 : 1e100);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    MLCORE_CHECK(std::abs(x.data[i]) <= kLargest, "x must be finite and at most ",
                 kSingle ? "1e15 in single precision" : "1e100", ", but entry ", i,
                 " (counted along the flattened array) is ", x.data[i]);
  }
}

/// Throws InvalidArgument when two particles of (3, n) lie closer than the root of `closest2`, in
/// O(n log n).
[[gnu::cold]] void check_apart(const double* const x[3], std::int64_t n,
                               double closest2 = kernels::kCoincide2<double>);

/// The same of (n, 3), where the inner loops have found that two coincide.
template <class Real>
[[gnu::cold]] void find_coincidence(View<const Real, 2> x);

}  // namespace mlcore::detail
