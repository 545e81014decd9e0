#include "mlcore/mobility.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <string>
#include <vector>

#include "mobility_cuda.hpp"
#include "mobility_open.hpp"
#include "mobility_particles.hpp"
#include "mobility_plan.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

using detail::Components;
using detail::EwaldUse;
using detail::MobilityPlan;
using detail::Particles;
using detail::prepared;
using detail::table_of;
using detail::takes_open_path;
using detail::tile_count;
using detail::TilePowers;
using kernels::kTile;

constexpr std::int64_t kMatrixGrain = 8;

template <int Rank, class Real>
void check_vectors(const char* name, View<const Real, Rank> v, std::array<std::int64_t, Rank> s) {
  bool same = true;
  for (int k = 0; k < Rank; ++k) same = same && v.shape[k] == s[k];
  if (same) return;
  std::string want, got;
  for (int k = 0; k < Rank; ++k) {
    want += (k ? ", " : "") + std::to_string(s[k]);
    got += (k ? ", " : "") + std::to_string(v.shape[k]);
  }
  detail::raise<InvalidArgument>(name, " must have the shape (", want, "), got (", got, ")");
}

void set_self_block(const double self[6], std::int64_t i, View<double, 2> M) {
  constexpr int index[3][3] = {{0, 1, 2}, {1, 3, 4}, {2, 4, 5}};
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) M(3 * i + a, 3 * i + b) = self[index[a][b]];
  }
}

void open_matrix(const Context& context, const MobilityPlan& plan, const Particles& particles,
                 View<double, 2> M) {
  const auto row = MLCORE_DISPATCH(mobility_row);
  const std::int64_t n = particles.n, stride = M.shape[1];
  detail::parallel_for(context, n, kMatrixGrain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      row(particles.geometry, plan.terms, plan.term_count, i, n, M.data, stride);
      set_self_block(plan.self, i, M);
    }
  });
}

/// Adds a tile of the wave part to the blocks of M below the diagonal.
void add_wave_tile(const double* tensors, std::int64_t ti, std::int64_t tj, std::int64_t n,
                   View<double, 2> M) {
  const std::int64_t i_end = std::min(n, (ti + 1) * kTile);
  for (std::int64_t i = ti * kTile; i < i_end; ++i) {
    const std::int64_t j_end = std::min(i, (tj + 1) * kTile);
    double* rows[3];
    for (int a = 0; a < 3; ++a) rows[a] = M.data + (3 * i + a) * M.shape[1];
    for (std::int64_t j = tj * kTile; j < j_end; ++j) {
      const double* t = tensors + (i - ti * kTile) * kTile + (j - tj * kTile);
      constexpr int size = kTile * kTile;
      const double xx = t[0], xy = t[size], xz = t[2 * size];
      const double yy = t[3 * size], yz = t[4 * size], zz = t[5 * size];
      rows[0][3 * j] += xx;
      rows[0][3 * j + 1] += xy;
      rows[0][3 * j + 2] += xz;
      rows[1][3 * j] += xy;
      rows[1][3 * j + 1] += yy;
      rows[1][3 * j + 2] += yz;
      rows[2][3 * j] += xz;
      rows[2][3 * j + 1] += yz;
      rows[2][3 * j + 2] += zz;
    }
  }
}

/// exp(i k.x) of every tile, wave vector by wave vector.
std::vector<double> all_phases(const Context& context, const detail::WavePart& waves,
                               const Particles& particles) {
  const kernels::WaveVectors view = waves.view();
  const std::int64_t size = 2 * kTile * view.count;
  std::vector<double> phases(tile_count(particles.n) * size);
  detail::parallel_for(context, tile_count(particles.n), 1,
                       [&](std::int64_t begin, std::int64_t end, int) {
                         TilePowers& powers = TilePowers::of(waves);
                         for (std::int64_t t = begin; t < end; ++t) {
                           powers.fill(waves, particles, t);
                           MLCORE_DISPATCH(mobility_phases)
                           (view, powers.pointers(), phases.data() + t * size);
                         }
                       });
  return phases;
}

/// Pair part of the blocks of M left of the diagonal, and the blocks on it, for one tile.
void pair_rows(const MobilityPlan& plan, const Particles& particles, std::int64_t tile,
               View<double, 2> M) {
  const std::int64_t begin = tile * kTile, end = std::min(particles.n, begin + kTile);
  MLCORE_DISPATCH(mobility_lower_rows)
  (particles.geometry, plan.terms, plan.term_count, begin, end, M.data, M.shape[1]);
  for (std::int64_t i = begin; i < end; ++i) set_self_block(plan.self, i, M);
}

/// Wave vectors taken at a time: their phases stay in cache.
constexpr std::int64_t kWaveChunk = 512;

/// Adds the wave vectors first..first+count-1 to the blocks left of the diagonal for one tile.
void add_wave_rows(const kernels::WaveVectors& waves, const std::vector<double>& phases,
                   std::int64_t first, std::int64_t count, std::int64_t tile, std::int64_t n,
                   View<double, 2> M) {
  const auto wave_tile = MLCORE_DISPATCH(mobility_wave_tile);
  const std::int64_t size = 2 * kTile * waves.count, offset = 2 * kTile * first;
  double tensors[6 * kTile * kTile];
  for (std::int64_t other = 0; other <= tile; ++other) {
    wave_tile(count, waves.weights + 6 * first, phases.data() + tile * size + offset,
              phases.data() + other * size + offset, tensors);
    add_wave_tile(tensors, tile, other, n, M);
  }
}

/// Copies the blocks left of the diagonal to the right of it, for the rows of one tile.
void mirror_rows(std::int64_t tile, View<double, 2> M) {
  const std::int64_t m = M.shape[0];
  const std::int64_t begin = 3 * kTile * tile, end = std::min(m, begin + 3 * kTile);
  for (std::int64_t column = begin; column < m; column += 3 * kTile) {
    const std::int64_t column_end = std::min(m, column + 3 * kTile);
    for (std::int64_t p = begin; p < end; ++p) {
      for (std::int64_t q = std::max(column, p + 1); q < column_end; ++q) M(p, q) = M(q, p);
    }
  }
}

void periodic_matrix(const Context& context, const MobilityPlan& plan, const Particles& particles,
                     View<double, 2> M) {
  const std::int64_t tiles = tile_count(particles.n);
  std::vector<double> phases;
  if (plan.ewald) phases = all_phases(context, plan.ewald->waves, particles);
  // A long row goes with a short one, so that every thread has the same work.
  const auto for_tiles = [tiles](std::int64_t begin, std::int64_t end, const auto& body) {
    for (std::int64_t t = begin; t < end; ++t) {
      body(t);
      if (tiles - 1 - t != t) body(tiles - 1 - t);
    }
  };
  detail::parallel_for(context, (tiles + 1) / 2, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for_tiles(begin, end, [&](std::int64_t t) { pair_rows(plan, particles, t, M); });
    if (!plan.ewald) return;
    const kernels::WaveVectors waves = plan.ewald->waves.view();
    for (std::int64_t first = 0; first < waves.count; first += kWaveChunk) {
      const std::int64_t count = std::min(kWaveChunk, waves.count - first);
      for_tiles(begin, end, [&](std::int64_t t) {
        add_wave_rows(waves, phases, first, count, t, particles.n, M);
      });
    }
  });
  detail::parallel_for(context, tiles, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) mirror_rows(t, M);
  });
}

/// self F_i
void self_velocity(const double self[6], const Components& force, std::int64_t i, double v[3]) {
  const double fx = force.pointers[0][i], fy = force.pointers[1][i], fz = force.pointers[2][i];
  v[0] = self[0] * fx + self[1] * fy + self[2] * fz;
  v[1] = self[1] * fx + self[3] * fy + self[4] * fz;
  v[2] = self[2] * fx + self[4] * fy + self[5] * fz;
}

/// All but the wave part.
void pair_velocities(const Context& context, const MobilityPlan& plan, const Particles& particles,
                     const Components& force, View<double, 2> V) {
  const std::int64_t n = particles.n;
  double self[6];  // what the loops below leave out
  for (int m = 0; m < 6; ++m) {
    self[m] = plan.self[m] - (plan.ewald ? plan.ewald->wave_self[m] : 0.0);
  }
  const auto body = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      double v[3];
      self_velocity(self, force, i, v);
      MLCORE_DISPATCH(mobility_velocity)
      (particles.geometry, plan.terms, plan.term_count, i, n, force.pointers, v);
      for (int a = 0; a < 3; ++a) V(i, a) = v[a];
    }
  };
  detail::parallel_for(context, n, 8, std::ref(body));
}

void load_tile(const Components& force, std::int64_t tile, std::int64_t n, double out[3 * kTile]) {
  for (int a = 0; a < 3; ++a) {
    for (int lane = 0; lane < kTile; ++lane) {
      const std::int64_t i = tile * kTile + lane;
      out[a * kTile + lane] = i < n ? force.pointers[a][i] : 0.0;
    }
  }
}

/// sum_j F_j exp(i k.x_j) times the weights: (count, 6), cosine part then sine part.
/// Threads share the wave vectors, so the order of summation does not depend on their number. In
/// memory that each thread keeps from call to call.
const std::vector<double>& weighted_structure(const Context& context, const detail::WavePart& waves,
                                              const Particles& particles, const Components& force) {
  const kernels::WaveVectors view = waves.view();
  static thread_local std::vector<double> kept;
  std::vector<double>& sums = kept;  // of this thread, whichever one runs the body
  sums.assign(6 * view.count, 0.0);
  const auto body = [&](std::int64_t begin, std::int64_t end, int) {
    TilePowers& powers = TilePowers::of(waves);
    double tile_force[3 * kTile];
    for (std::int64_t t = 0; t < tile_count(particles.n); ++t) {
      powers.fill(waves, particles, t);
      load_tile(force, t, particles.n, tile_force);
      MLCORE_DISPATCH(mobility_spread)
      (view, begin, end, powers.pointers(), tile_force, sums.data());
    }
    for (std::int64_t k = view.rows[begin].first;
         k < (end < view.row_count ? view.rows[end].first : view.count); ++k) {
      const double* w = view.weights + 6 * k;
      for (double* s = sums.data() + 6 * k; s < sums.data() + 6 * k + 6; s += 3) {
        const double x = s[0], y = s[1], z = s[2];
        s[0] = w[0] * x + w[1] * y + w[2] * z;
        s[1] = w[1] * x + w[3] * y + w[4] * z;
        s[2] = w[2] * x + w[4] * y + w[5] * z;
      }
    }
  };
  detail::parallel_for(context, view.row_count, 8, std::ref(body));
  return sums;
}

/// Adds the wave part for every particle, its own included.
void add_wave_velocities(const Context& context, const MobilityPlan& plan,
                         const Particles& particles, const Components& force, View<double, 2> V) {
  const detail::WavePart& waves = plan.ewald->waves;
  const std::vector<double>& sums = weighted_structure(context, waves, particles, force);
  const std::int64_t n = particles.n;
  const auto body = [&](std::int64_t begin, std::int64_t end, int) {
    TilePowers& powers = TilePowers::of(waves);
    for (std::int64_t t = begin; t < end; ++t) {
      powers.fill(waves, particles, t);
      double v[3 * kTile] = {};
      MLCORE_DISPATCH(mobility_gather)
      (waves.view(), powers.pointers(), sums.data(), v);
      for (int lane = 0; lane < kTile && t * kTile + lane < n; ++lane) {
        for (int a = 0; a < 3; ++a) V(t * kTile + lane, a) += v[a * kTile + lane];
      }
    }
  };
  detail::parallel_for(context, tile_count(n), 1, std::ref(body));
}

template <int Rank, class Real, class... Views>
bool on_gpu(View<const Real, Rank> x, const Views&... others) {
  const bool gpu = x.device == Device::cuda;
  MLCORE_CHECK(((others.device == x.device) && ...),
               "all arrays must live on the same device, but x is on ", gpu ? "the GPU" : "the CPU",
               " and another one is not");
  return gpu;
}

void check_parameters_device(const MobilityModel& model) {
  const PairTable& t = model.table;
  MLCORE_CHECK(model.radii.device == Device::cpu && t.par.device == Device::cpu &&
                   t.dpar.device == Device::cpu && t.perp.device == Device::cpu &&
                   t.dperp.device == Device::cpu,
               "radii and the arrays of a table must live on the CPU");
}

void matrix_on_cpu(const Context& context, const MobilityModel& model, const MobilityPlan& plan,
                   View<const double, 2> x, View<double, 2> M) {
  const Particles& particles = prepared(model, plan, x);
  if (particles.n == 0) return;
  if (plan.cell.is_open()) {
    open_matrix(context, plan, particles, M);
  } else {
    periodic_matrix(context, plan, particles, M);
  }
}

void apply_on_cpu(const Context& context, const MobilityModel& model, const MobilityPlan& plan,
                  View<const double, 2> x, View<const double, 2> F, View<double, 2> V) {
  const Particles& particles = prepared(model, plan, x);
  check_finite("forces", F);
  if (particles.n == 0) return;
  const Components& force = Components::of(F);
  pair_velocities(context, plan, particles, force, V);
  if (plan.ewald) add_wave_velocities(context, plan, particles, force, V);
}

void divergence_on_cpu(const Context& context, const MobilityModel& model, const MobilityPlan& plan,
                       View<const double, 2> x, View<double, 2> D) {
  const Particles& particles = prepared(model, plan, x);
  std::fill(D.begin(), D.end(), 0.0);
  if (plan.table_term < 0) return;
  const kernels::PairTerm& term = plan.terms[plan.table_term];
  const auto row = MLCORE_DISPATCH(mobility_divergence_row);
  detail::parallel_for(context, particles.n, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      double d[3] = {};
      row(particles.geometry, term, i, particles.n, d);
      for (int a = 0; a < 3; ++a) D(i, a) = d[a];
    }
  });
}

/// View of a single configuration as a batch of one.
template <class T>
View<T, 3> batch_of_one(View<T, 2> v) {
  return {v.data, {1, v.shape[0], v.shape[1]}, v.device};
}

/// Batches run in parallel; a single configuration runs in parallel inside.
template <class Body>
void for_each_in_batch(const Context& context, std::int64_t count, const Body& body) {
  const auto some = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) body(b);
  };
  if (count == 1) return body(0);
  detail::parallel_for(context, count, 1, std::ref(some));
}

/// Double-precision copy of a single-precision batch.
class Widened {
 public:
  explicit Widened(View<const float, 3> v) : values_(v.begin(), v.end()), shape_(v.shape) {}
  View<const double, 3> view() const { return {values_.data(), shape_}; }

 private:
  std::vector<double> values_;
  View<const float, 3>::Shape shape_;
};

/// Calls body with a double-precision array and rounds what it fills.
template <class Body>
void rounded(View<float, 3> out, const Body& body) {
  std::vector<double> values(out.size());
  body(View<double, 3>(values.data(), out.shape));
  for (std::int64_t k = 0; k < out.size(); ++k) out.data[k] = static_cast<float>(values[k]);
}

template <class Real>
void check_matrix(const MobilityModel& model, View<const Real, 3> x, View<Real, 3> M) {
  const std::int64_t batch = x.shape[0], n = x.shape[1];
  check_vectors<3>("x", x, {batch, n, 3});
  MLCORE_CHECK(n < (std::int64_t{1} << 29), "x holds too many particles for a matrix: ", n);
  check_vectors<3, Real>("M", M, {batch, 3 * n, 3 * n});
  check_parameters_device(model);
}

template <class Real>
void check_apply(const MobilityModel& model, View<const Real, 3> x, View<const Real, 3> F,
                 View<Real, 3> V) {
  const std::int64_t batch = x.shape[0], n = x.shape[1];
  check_vectors<3>("x", x, {batch, n, 3});
  check_vectors<3>("F", F, {batch, n, 3});
  check_vectors<3, Real>("V", V, {batch, n, 3});
  check_parameters_device(model);
}

template <class Real>
void check_divergence(const MobilityModel& model, View<const Real, 3> x, View<Real, 3> D) {
  const std::int64_t batch = x.shape[0], n = x.shape[1];
  check_vectors<3>("x", x, {batch, n, 3});
  check_vectors<3, Real>("D", D, {batch, n, 3});
  check_parameters_device(model);
}

void planned_matrix(const Context& context, const MobilityModel& model, const Cell& cell,
                    View<const double, 3> x, View<double, 3> M) {
  const MobilityPlan plan = detail::mobility_plan(model, cell, EwaldUse::matrix, x.shape[1]);
  for_each_in_batch(context, x.shape[0],
                    [&](std::int64_t b) { matrix_on_cpu(context, model, plan, x[b], M[b]); });
}

void planned_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                   View<const double, 3> x, View<const double, 3> F, View<double, 3> V) {
  const MobilityPlan plan = detail::mobility_plan(model, cell, EwaldUse::apply, x.shape[1]);
  for_each_in_batch(context, x.shape[0],
                    [&](std::int64_t b) { apply_on_cpu(context, model, plan, x[b], F[b], V[b]); });
}

void planned_divergence(const Context& context, const MobilityModel& model, const Cell& cell,
                        View<const double, 3> x, View<double, 3> D) {
  const MobilityPlan plan = detail::mobility_plan(model, cell, EwaldUse::none, x.shape[1]);
  for_each_in_batch(context, x.shape[0],
                    [&](std::int64_t b) { divergence_on_cpu(context, model, plan, x[b], D[b]); });
}

template <class Real>
void open_matrices(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                   View<Real, 3> M, bool add) {
  for_each_in_batch(context, x.shape[0], [&](std::int64_t b) {
    detail::open_matrix<Real>(context, model, x[b], M[b], add);
  });
}

template <class Real>
void open_applies(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                  View<const Real, 3> F, View<Real, 3> V, bool add) {
  for_each_in_batch(context, x.shape[0], [&](std::int64_t b) {
    detail::open_apply<Real>(context, model, x[b], F[b], V[b], add);
  });
}

}  // namespace

void mobility_matrix(const Context& context, const MobilityModel& model, const Cell& cell,
                     View<const double, 3> x, View<double, 3> M) {
  check_matrix(model, x, M);
  detail::check_mobility(model, cell, x.shape[1]);
  if (on_gpu(x, M)) return cuda::mobility_matrix(context, model, cell, x, M);
  if (!takes_open_path(model, cell)) return planned_matrix(context, model, cell, x, M);
  const bool add = model.table.cutoff > 0;
  if (add) planned_matrix(context, table_of(model), cell, x, M);
  open_matrices(context, model, x, M, add);
}

void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                    View<const double, 3> x, View<const double, 3> F, View<double, 3> V) {
  check_apply(model, x, F, V);
  detail::check_mobility(model, cell, x.shape[1]);
  if (on_gpu(x, F, V)) return cuda::mobility_apply(context, model, cell, x, F, V);
  if (!takes_open_path(model, cell)) return planned_apply(context, model, cell, x, F, V);
  const bool add = model.table.cutoff > 0;
  if (add) planned_apply(context, table_of(model), cell, x, F, V);
  open_applies(context, model, x, F, V, add);
}

void mobility_divergence(const Context& context, const MobilityModel& model, const Cell& cell,
                         View<const double, 3> x, View<double, 3> D) {
  check_divergence(model, x, D);
  detail::check_mobility(model, cell, x.shape[1]);
  if (on_gpu(x, D)) return cuda::mobility_divergence(context, model, cell, x, D);
  planned_divergence(context, model, cell, x, D);
  if (!detail::has_open_kernel(model, cell)) return;
  for (std::int64_t b = 0; b < x.shape[0]; ++b) detail::add_open_divergence(model, x[b], D[b]);
}

void mobility_matrix(const Context& context, const MobilityModel& model, const Cell& cell,
                     View<const float, 3> x, View<float, 3> M) {
  check_matrix(model, x, M);
  detail::check_mobility(model, cell, x.shape[1]);
  if (on_gpu(x, M)) return cuda::mobility_matrix(context, model, cell, x, M);
  if (detail::has_open_kernel(model, cell) && model.table.cutoff == 0) {
    return open_matrices(context, model, x, M, false);
  }
  const Widened wide(x);
  rounded(M, [&](View<double, 3> m) { mobility_matrix(context, model, cell, wide.view(), m); });
}

void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                    View<const float, 3> x, View<const float, 3> F, View<float, 3> V) {
  check_apply(model, x, F, V);
  detail::check_mobility(model, cell, x.shape[1]);
  if (on_gpu(x, F, V)) return cuda::mobility_apply(context, model, cell, x, F, V);
  if (detail::has_open_kernel(model, cell) && model.table.cutoff == 0) {
    return open_applies(context, model, x, F, V, false);
  }
  const Widened wide(x), force(F);
  rounded(V, [&](View<double, 3> v) {
    mobility_apply(context, model, cell, wide.view(), force.view(), v);
  });
}

void mobility_divergence(const Context& context, const MobilityModel& model, const Cell& cell,
                         View<const float, 3> x, View<float, 3> D) {
  check_divergence(model, x, D);
  detail::check_mobility(model, cell, x.shape[1]);
  if (on_gpu(x, D)) return cuda::mobility_divergence(context, model, cell, x, D);
  if (model.kernel == Kernel::oseen && cell.is_open() && model.table.cutoff == 0) {
    // As the matrix in single precision does.
    for (std::int64_t b = 0; b < x.shape[0]; ++b) {
      detail::check_positions(x[b]);
      detail::find_coincidence(x[b]);
    }
  }
  const Widened wide(x);
  rounded(D, [&](View<double, 3> d) { mobility_divergence(context, model, cell, wide.view(), d); });
}

#define MLCORE_FOR_ONE(Real)                                                                     \
  void mobility_matrix(const Context& context, const MobilityModel& model, const Cell& cell,     \
                       View<const Real, 2> x, View<Real, 2> M) {                                 \
    mobility_matrix(context, model, cell, batch_of_one(x), batch_of_one(M));                     \
  }                                                                                              \
  void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,      \
                      View<const Real, 2> x, View<const Real, 2> F, View<Real, 2> V) {           \
    mobility_apply(context, model, cell, batch_of_one(x), batch_of_one(F), batch_of_one(V));     \
  }                                                                                              \
  void mobility_divergence(const Context& context, const MobilityModel& model, const Cell& cell, \
                           View<const Real, 2> x, View<Real, 2> D) {                             \
    mobility_divergence(context, model, cell, batch_of_one(x), batch_of_one(D));                 \
  }
MLCORE_FOR_ONE(double)
MLCORE_FOR_ONE(float)
#undef MLCORE_FOR_ONE

}  // namespace mlcore
