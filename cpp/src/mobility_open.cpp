#include "mobility_open.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <numbers>
#include <vector>

#include "parallel.hpp"

namespace mlcore::detail {
namespace {

using kernels::kOpenTile;
using kernels::OpenKind;
using kernels::OpenParameters;
using kernels::OpenPoints;
using kernels::OpenTile;
using std::numbers::pi;

constexpr std::int64_t kTwoBlocks = 384;  // particles up to which more of them cost too much

/// Where what pads arrays lies: far from everything and from each other.
template <class Real>
Real far_away(std::int64_t k) {
  return sizeof(Real) == 8 ? static_cast<Real>((k % 16 + 1) * 1e50)
                           : static_cast<Real>((k % 16 + 1) * 1e8);
}

template <class Real>
auto tiles_kernel() {
  if constexpr (sizeof(Real) == 8) return MLCORE_DISPATCH(mobility_tiles);
  if constexpr (sizeof(Real) == 4) return MLCORE_DISPATCH(mobility_tiles_f32);
}

template <class Real>
auto tile_kernel() {
  if constexpr (sizeof(Real) == 8) return MLCORE_DISPATCH(mobility_tile);
  if constexpr (sizeof(Real) == 4) return MLCORE_DISPATCH(mobility_tile_f32);
}

template <class Real>
auto rows_kernel() {
  if constexpr (sizeof(Real) == 8) return MLCORE_DISPATCH(mobility_open_rows);
  if constexpr (sizeof(Real) == 4) return MLCORE_DISPATCH(mobility_open_rows_f32);
}

/// One product M F: blocks of particles, and tiles within them.
template <class Real>
struct Product {
  const MobilityModel& model;
  View<const Real, 2> x, F;
  View<Real, 2> V;
  OpenKind kind;
  OpenParameters<Real> parameters;
  std::int64_t n, block, tile;
  std::int64_t blocks;  // even, or 1
  std::atomic<bool> zero{false};

  Product(const MobilityModel& model, View<const Real, 2> x, View<const Real, 2> F, View<Real, 2> V)
      : model(model), x(x), F(F), V(V), kind(open_kind(model)), n(x.shape[0]) {
    parameters = open_parameters<Real>(model);
    // Their number depends on n alone: so does the order of every sum.
    // A multiple of four, where it pays: two threads then have as many pairs of blocks each.
    blocks = n <= kOpenTile ? 1 : std::min<std::int64_t>(32, 4 * ((n + 1023) / 1024));
    if (n <= kTwoBlocks) blocks = std::min<std::int64_t>(blocks, 2);
    block = rounded((n + blocks - 1) / blocks);
    const std::int64_t tiles = (block + kOpenTile - 1) / kOpenTile;
    tile = rounded((block + tiles - 1) / tiles);
  }

  static std::int64_t rounded(std::int64_t count) { return (count + 15) / 16 * 16; }
  std::int64_t begin_of(std::int64_t b) const { return std::min(n, b * block); }

  void load(std::int64_t begin, std::int64_t end, OpenTile<Real>& t) const {
    const int count = static_cast<int>(end - begin);
    t.padded = static_cast<int>(rounded(count));
    for (int a = 0; a < 3; ++a) {
      for (int k = 0; k < count; ++k) {
        t.x[a][k] = x(begin + k, a);
        t.force[a][k] = F(begin + k, a);
      }
      for (int k = count; k < t.padded; ++k) {
        t.x[a][k] = far_away<Real>(k);
        t.force[a][k] = 0;
      }
      std::fill(t.velocity[a], t.velocity[a] + t.padded, Real(0));
    }
    const bool unequal = kind == OpenKind::rpy_unequal;
    for (int k = 0; k < t.padded; ++k) {
      t.radius[k] =
          unequal && k < count ? static_cast<Real>(model.radii(begin + k)) : parameters.radius;
    }
  }

  void add(const OpenTile<Real>& t, std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) {
      for (int a = 0; a < 3; ++a) V(i, a) += parameters.stokeslet * t.velocity[a][i - begin];
    }
  }

  void self(std::int64_t begin, std::int64_t end, bool add) const {
    for (std::int64_t i = begin; i < end; ++i) {
      double s[6];
      open_self_block(model, i, static_cast<double>(x(i, 2)), s);
      for (int m : {0, 3, 5}) s[m] += add ? 0.0 : model.self;
      const double f[3] = {F(i, 0), F(i, 1), F(i, 2)};
      const double v[3] = {s[0] * f[0], s[3] * f[1], s[5] * f[2]};
      for (int a = 0; a < 3; ++a) V(i, a) = static_cast<Real>(v[a] + (add ? V(i, a) : Real(0)));
    }
  }

  /// All pairs of two blocks, or of one.
  void blocks_of(std::int64_t a, std::int64_t b) {
    OpenTile<Real> one, two;
    bool found = false;
    const std::int64_t end_a = begin_of(a + 1), end_b = begin_of(b + 1);
    for (std::int64_t i = begin_of(a); i < end_a; i += tile) {
      const std::int64_t i_end = std::min(end_a, i + tile);
      load(i, i_end, one);
      if (a == b) found |= tile_kernel<Real>()(kind, parameters, one);
      for (std::int64_t j = a == b ? i_end : begin_of(b); j < end_b; j += tile) {
        const std::int64_t j_end = std::min(end_b, j + tile);
        load(j, j_end, two);
        found |= tiles_kernel<Real>()(kind, parameters, one, two);
        add(two, j, j_end);
      }
      add(one, i, i_end);
    }
    if (found) zero = true;
  }
};

template <class Real>
void check_heights(const MobilityModel& model, View<const Real, 2> x) {
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    MLCORE_CHECK(x(i, 2) >= static_cast<Real>(model.radius), "particle ", i,
                 " lies at z = ", x(i, 2), ", closer to the wall z = 0 than its radius ",
                 model.radius);
  }
}

/// Positions as structure of arrays.
template <class Real>
class Columns {
 public:
  Columns(const MobilityModel& model, View<const Real, 2> x) {
    const std::int64_t n = x.shape[0], padded = Product<Real>::rounded(n);
    values_.resize(4 * padded);
    for (int a = 0; a < 3; ++a) {
      Real* column = values_.data() + a * padded;
      for (std::int64_t i = 0; i < n; ++i) column[i] = x(i, a);
      for (std::int64_t i = n; i < padded; ++i) column[i] = far_away<Real>(i);
      points.x[a] = column;
    }
    Real* radius = values_.data() + 3 * padded;
    for (std::int64_t i = 0; i < padded; ++i) {
      radius[i] = static_cast<Real>(i < model.radii.size() ? model.radii(i) : model.radius);
    }
    points.radius = radius;
    points.n = n;
  }

  OpenPoints<Real> points;

 private:
  std::vector<Real> values_;
};

}  // namespace

bool has_open_kernel(const MobilityModel& model, const Cell& cell) {
  return model.kernel != Kernel::none && cell.is_open();
}

bool takes_open_path(const MobilityModel& model, const Cell& cell) {
  const bool plain =
      model.radii.empty() && (model.kernel == Kernel::oseen || model.kernel == Kernel::rpy);
  return has_open_kernel(model, cell) && !(plain && model.table.cutoff > 0);
}

MobilityModel table_of(const MobilityModel& model) {
  MobilityModel table = model;
  table.kernel = Kernel::none;
  table.radii = {};
  return table;
}

OpenKind open_kind(const MobilityModel& model) {
  switch (model.kernel) {
    case Kernel::oseen:
      return OpenKind::oseen;
    case Kernel::regularized_oseen:
      return OpenKind::regularized;
    case Kernel::rpy_wall:
      return OpenKind::rpy_wall;
    default:
      return model.radii.empty() ? OpenKind::rpy : OpenKind::rpy_unequal;
  }
}

template <class Real>
OpenParameters<Real> open_parameters(const MobilityModel& model) {
  const double a = model.radius;
  return {static_cast<Real>(1 / (8 * pi * model.viscosity)),
          static_cast<Real>(a),
          static_cast<Real>(2 * a * a / 3),
          static_cast<Real>(4 * a * a),
          static_cast<Real>(4 / (3 * a)),
          static_cast<Real>(3 / (8 * a * a)),
          static_cast<Real>(1 / (8 * a * a)),
          static_cast<Real>(2.25 * a * a)};
}

template OpenParameters<double> open_parameters(const MobilityModel&);
template OpenParameters<float> open_parameters(const MobilityModel&);

void open_self_block(const MobilityModel& model, std::int64_t i, double z, double self[6]) {
  const double a = model.radii.empty() ? model.radius : model.radii(i);
  const double mobility = 1.0 / (6.0 * pi * model.viscosity * a);
  double along = 1, up = 1;
  if (model.kernel == Kernel::rpy_wall) {
    const double s = a / z, s2 = s * s;
    along -= s * (9.0 / 16 - s2 * (1.0 / 8 - s2 / 16));
    up -= s * (9.0 / 8 - s2 * (1.0 / 2 - s2 / 8));
  }
  self[0] = self[3] = mobility * along;
  self[5] = mobility * up;
  self[1] = self[2] = self[4] = 0;
}

void check_apart(const double* const x[3], std::int64_t n, double closest2) {
  struct Member {
    std::int64_t group, i;
  };
  // Axis by axis, groups fall apart at gaps too wide for the two on either side.
  const double reach = std::sqrt(closest2);
  std::vector<Member> members(n);
  for (std::int64_t i = 0; i < n; ++i) members[i] = {0, i};
  std::int64_t groups = 1;
  for (int a = 0; a < 3 && groups < n; ++a) {
    std::sort(members.begin(), members.end(), [&](const Member& p, const Member& q) {
      if (p.group != q.group) return p.group < q.group;
      return x[a][p.i] != x[a][q.i] ? x[a][p.i] < x[a][q.i] : p.i < q.i;
    });
    groups = 0;
    std::int64_t before = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      const bool apart = k == 0 || members[k].group != before ||
                         x[a][members[k].i] - x[a][members[k - 1].i] > reach;
      before = members[k].group;
      groups += apart ? 1 : 0;
      members[k].group = groups;
    }
  }
  if (groups >= n) return;
  for (std::int64_t k = 0; k < n; ++k) {
    for (std::int64_t l = k + 1; l < n && members[l].group == members[k].group; ++l) {
      const std::int64_t i = members[k].i, j = members[l].i;
      const double dx = x[0][i] - x[0][j], dy = x[1][i] - x[1][j], dz = x[2][i] - x[2][j];
      MLCORE_CHECK(dx * dx + dy * dy + dz * dz >= closest2, "particles ", std::min(i, j), " and ",
                   std::max(i, j),
                   " coincide; the Oseen tensor is singular there (the RPY tensor is not)");
    }
  }
}

template <class Real>
void find_coincidence(View<const Real, 2> x) {
  std::vector<double> columns[3];
  const double* pointers[3];
  for (int a = 0; a < 3; ++a) {
    for (std::int64_t i = 0; i < x.shape[0]; ++i) columns[a].push_back(x(i, a));
    pointers[a] = columns[a].data();
  }
  check_apart(pointers, x.shape[0], kernels::kCoincide2<Real>);
}

template <class Real>
void check_open_positions(const MobilityModel& model, View<const Real, 2> x) {
  check_positions(x);
  if (model.kernel == Kernel::rpy_wall) check_heights(model, x);
}

template <class Real>
void open_matrix(const Context& context, const MobilityModel& model, View<const Real, 2> x,
                 View<Real, 2> M, bool add) {
  check_open_positions(model, x);
  const Columns<Real> columns(model, x);
  const OpenParameters<Real> parameters = open_parameters<Real>(model);
  const OpenKind kind = open_kind(model);
  const std::int64_t n = x.shape[0], width = 3 * n;
  std::atomic<bool> zero{false};
  parallel_for(context, n, 8, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<Real> apart(add ? 3 * width : 0);
    for (std::int64_t i = begin; i < end; ++i) {
      double self[6];
      open_self_block(model, i, static_cast<double>(x(i, 2)), self);
      for (int m : {0, 3, 5}) self[m] += add ? 0.0 : model.self;
      Real* rows = M.data + 3 * i * width;
      Real* to = add ? apart.data() : rows;
      if (rows_kernel<Real>()(kind, parameters, columns.points, i, self, to)) zero = true;
      for (std::size_t k = 0; k < apart.size(); ++k) rows[k] += apart[k];
    }
  });
  if (zero) find_coincidence(x);
}

template <class Real>
void open_apply(const Context& context, const MobilityModel& model, View<const Real, 2> x,
                View<const Real, 2> F, View<Real, 2> V, bool add) {
  check_open_positions(model, x);
  check_finite("forces", F);
  if (x.shape[0] == 0) return;
  Product<Real> product(model, x, F, V);
  const auto diagonal = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      product.self(product.begin_of(b), product.begin_of(b + 1), add);
      product.blocks_of(b, b);
    }
  };
  // std::ref: a copy of the closure would be allocated.
  parallel_for(context, product.blocks, 1, std::ref(diagonal));
  // A round of a tournament: every block meets one other, so threads never share one.
  const std::int64_t others = product.blocks - 1;
  for (std::int64_t round = 0; round < others; ++round) {
    const auto meet = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t k = begin; k < end; ++k) {
        const std::int64_t a = (round + k) % others;
        const std::int64_t b = k == 0 ? others : (round - k + others) % others;
        product.blocks_of(std::min(a, b), std::max(a, b));
      }
    };
    parallel_for(context, product.blocks / 2, 1, std::ref(meet));
  }
  if (product.zero) find_coincidence(x);
}

void add_open_divergence(const MobilityModel& model, View<const double, 2> x, View<double, 2> D) {
  check_open_positions(model, x);
  if (model.kernel != Kernel::rpy_wall) return;
  const double a = model.radius, mobility = 1.0 / (6.0 * pi * model.viscosity * a);
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    const double s = a / x(i, 2), s2 = s * s;
    D(i, 2) += mobility / a * s2 * (9.0 / 8 - s2 * (3.0 / 2 - s2 * 5.0 / 8));
  }
}

#define MLCORE_INSTANTIATE(Real)                                                       \
  template void find_coincidence(View<const Real, 2>);                                 \
  template void check_open_positions(const MobilityModel&, View<const Real, 2>);       \
  template void open_matrix(const Context&, const MobilityModel&, View<const Real, 2>, \
                            View<Real, 2>, bool);                                      \
  template void open_apply(const Context&, const MobilityModel&, View<const Real, 2>,  \
                           View<const Real, 2>, View<Real, 2>, bool);
MLCORE_INSTANTIATE(double)
MLCORE_INSTANTIATE(float)
#undef MLCORE_INSTANTIATE

}  // namespace mlcore::detail
