#include "mobility_gradient.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "kernels/mobility_gradient.hpp"
#include "kernels/mobility_slopes.hpp"
#include "mobility_gradient_cuda.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

using detail::Components;
using detail::EwaldUse;
using detail::MobilityPlan;
using detail::ParameterSums;
using detail::Particles;
using detail::SelfWeight;
using kernels::GradientSums;
using kernels::PairCotangent;
using kernels::PairSystem;
using kernels::WallSelf;
using std::numbers::pi;

PairSystem system_of(const MobilityModel& model, const MobilityPlan& plan,
                     const Particles& particles) {
  return {particles.geometry, plan.terms, plan.term_count,
          model.radii.empty() ? nullptr : model.radii.data, model.kernel == Kernel::rpy_wall};
}

const Particles& particles_of(const MobilityModel& model, const MobilityPlan& plan,
                              View<const double, 2> x) {
  detail::check_open_positions(model, x);
  return detail::prepared(model, plan, x);
}

/// (3, n) copy of vectors that outlives the next one.
class Columns {
 public:
  explicit Columns(View<const double, 2> v) {
    const std::int64_t n = v.shape[0];
    for (int a = 0; a < 3; ++a) {
      values_[a].assign(8 * ((n + 7) / 8), 0.0);
      for (std::int64_t i = 0; i < n; ++i) values_[a][i] = v(i, a);
      pointers[a] = values_[a].data();
    }
  }
  const double* pointers[3];

 private:
  std::vector<double> values_[3];
};

// -- the self part --------------------------------------------------------------------------------

double contract(const SelfWeight& w, const double t[6]) {
  double sum = 0;
  for (int m = 0; m < 6; ++m) sum += w[m] * t[m];
  return sum;
}

double trace(const SelfWeight& w) { return w[0] + w[3] + w[5]; }

WallSelf wall_self(const MobilityModel& model, double z) {
  return kernels::wall_self(1 / (6 * pi * model.viscosity), model.radius, z);
}

/// The part of the kernel in M_ii that no sum over pairs or waves holds, and its slope in the
/// radius; equal for all particles.
struct KernelSelf {
  double value[6] = {}, radius[6] = {};
};

KernelSelf periodic_self(const MobilityModel& model, const MobilityPlan& plan) {
  KernelSelf out;
  const kernels::RadialParameters& p = plan.ewald->radial;
  const bool rpy = model.kernel == Kernel::rpy;
  for (int m = 0; m < 6; ++m) out.value[m] = plan.ewald->self[m] - plan.ewald->wave_self[m];
  for (const auto& d : detail::own_images(plan.cell, std::sqrt(p.cutoff2))) {
    const double r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2], i = kernels::inverse_or_zero(r2);
    const kernels::Slopes s =
        rpy ? kernels::ewald_slopes<true>(p, r2, i) : kernels::ewald_slopes<false>(p, r2, i);
    int m = 0;
    for (int a = 0; a < 3; ++a) {
      for (int b = a; b < 3; ++b) out.radius[m++] += (a == b ? s.fa : 0.0) + s.ga * d[a] * d[b];
    }
  }
  const double own = -p.mobility / model.radius - (rpy ? kernels::smooth_slopes(p, 0.0).fa : 0.0);
  for (int m : {0, 3, 5}) out.radius[m] += own;
  return out;
}

// -- tables ---------------------------------------------------------------------------------------

/// Adds what par and perp at a distance weigh to the knots they are interpolated from.
void add_to_knots(const kernels::TableParameters& p, double r2, double weight_par,
                  double weight_perp, const MobilityGradients& to) {
  if (!(r2 < p.cutoff2)) return;
  const double t = std::sqrt(r2) * p.inverse_spacing;
  const std::int32_t k = std::min(static_cast<std::int32_t>(t), p.last_interval);
  const double u = t - k, v = 1 - u;
  const double basis[4] = {v * v * (1 + 2 * u), u * u * (3 - 2 * u), p.spacing * u * v * v,
                           -p.spacing * u * u * v};
  const auto add = [&](View<double, 1> values, View<double, 1> slopes, double weight) {
    if (!values.empty()) {
      values(k) += weight * basis[0];
      values(k + 1) += weight * basis[1];
    }
    if (!slopes.empty()) {
      slopes(k) += weight * basis[2];
      slopes(k + 1) += weight * basis[3];
    }
  };
  add(to.par, to.dpar, weight_par);
  add(to.perp, to.dperp, weight_perp);
}

bool wants_table(const MobilityGradients& g) {
  return !g.par.empty() || !g.dpar.empty() || !g.perp.empty() || !g.dperp.empty();
}

/// Adds a block with the weight s (row by row) at the distance d.
void add_block_to_knots(const kernels::TableParameters& p, const std::array<double, 3>& d,
                        const double s[9], const MobilityGradients& to) {
  const double r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
  double along = 0;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) along += s[3 * a + b] * d[a] * d[b];
  }
  along = r2 > 0 ? along / r2 : 0.0;
  add_to_knots(p, r2, along, s[0] + s[4] + s[8] - along, to);
}

/// C_ij + C_ji^T, row by row.
void pair_weight(const PairCotangent& c, std::int64_t i, std::int64_t j, double s[9]) {
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      s[3 * a + b] = c.matrix ? c.matrix[(3 * i + a) * c.stride + 3 * j + b] +
                                    c.matrix[(3 * j + b) * c.stride + 3 * i + a]
                              : c.adjoint[a][i] * c.force[b][j] + c.force[a][i] * c.adjoint[b][j];
    }
  }
}

/// The periodic images of every particle itself.
void add_own_images(const MobilityPlan& plan, const SelfWeight& self, const MobilityGradients& to) {
  const kernels::TableParameters& table = plan.terms[plan.table_term].table;
  const double own[9] = {self[0], self[1], self[2], 0, self[3], self[4], 0, 0, self[5]};
  for (const auto& d : detail::own_images(plan.cell, std::sqrt(table.cutoff2))) {
    add_block_to_knots(table, d, own, to);
  }
}

/// Pairs within the cutoff, one at a time.
void add_table_gradients(const MobilityPlan& plan, const Particles& particles,
                         const PairCotangent& cotangent, const SelfWeight& self,
                         const MobilityGradients& to) {
  const kernels::PairTerm& term = plan.terms[plan.table_term];
  const kernels::PairGeometry& g = particles.geometry;
  for (std::int64_t i = 0; i < particles.n; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      std::array<double, 3> d = {g.x[i] - g.x[j], g.y[i] - g.y[j], g.z[i] - g.z[j]}, sign{};
      for (int a = 0; a < 3; ++a) {
        const double f = d[0] * g.inverse[a] + d[1] * g.inverse[3 + a] + d[2] * g.inverse[6 + a];
        const double shift = std::nearbyint(f);
        sign[a] = f >= shift ? 1.0 : -1.0;
        for (int k = 0; k < 3; ++k) d[k] -= shift * g.rows[3 * a + k];
      }
      for (std::int64_t s = 0; s < term.image_count; ++s) {
        std::array<double, 3> v = d;
        for (int a = 0; a < 3; ++a) {
          const double n = term.images[3 * s + a] * sign[a];
          for (int k = 0; k < 3; ++k) v[k] += n * g.rows[3 * a + k];
        }
        if (v[0] * v[0] + v[1] * v[1] + v[2] * v[2] >= term.table.cutoff2) continue;
        double weight[9];
        pair_weight(cotangent, i, j, weight);
        add_block_to_knots(term.table, v, weight, to);
      }
    }
  }
  add_own_images(plan, self, to);
}

// -- one configuration ----------------------------------------------------------------------------

/// A scalar sum_ij C_ij : M_ij, C_ij = G_i F_j^T or the blocks of a matrix.
struct Scalar {
  View<const double, 2> F, G, C;

  void self_weight(std::int64_t i, double s[6]) const {
    int m = 0;
    for (int a = 0; a < 3; ++a) {
      for (int b = a; b < 3; ++b) s[m++] = at(i, a, b) + (a == b ? 0.0 : at(i, b, a));
    }
  }

 private:
  double at(std::int64_t i, int a, int b) const {
    return C.data ? C(3 * i + a, 3 * i + b) : G(i, a) * F(i, b);
  }
};

/// The wave part of a matrix is a sum over its columns.
void add_matrix_waves(const Context& context, const MobilityModel& model, const MobilityPlan& plan,
                      const Particles& particles, View<const double, 2> C, View<double, 2> X,
                      ParameterSums& sums) {
  const std::int64_t n = particles.n;
  std::vector<double> force(3 * n), column(3 * n);
  for (std::int64_t q = 0; q < 3 * n; ++q) {
    std::fill(force.begin(), force.end(), 0.0);
    force[q] = 1;
    for (std::int64_t p = 0; p < 3 * n; ++p) column[p] = C(p, q);
    const auto waves = detail::add_wave_gradients(context, model, plan, particles,
                                                  View<const double, 2>(force.data(), {n, 3}),
                                                  View<const double, 2>(column.data(), {n, 3}), X);
    sums.value += waves.value;
    sums.radius[0] += waves.radius;
  }
}

void add_wall_self(const MobilityModel& model, View<const double, 2> x, const Scalar& scalar,
                   View<double, 2> X, ParameterSums& sums) {
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    double s[6];
    scalar.self_weight(i, s);
    const WallSelf w = wall_self(model, x(i, 2));
    X(i, 2) += w.slope[0] * (s[0] + s[3]) + w.slope[1] * s[5];
    sums.radius[0] += w.radius[0] * (s[0] + s[3]) + w.radius[1] * s[5];
    sums.value += w.value[0] * (s[0] + s[3]) + w.value[1] * s[5];
  }
}

void add_open_self(const MobilityModel& model, std::int64_t n, const Scalar& scalar,
                   ParameterSums& sums) {
  for (std::int64_t i = 0; i < n; ++i) {
    double s[6], self[6];
    scalar.self_weight(i, s);
    detail::open_self_block(model, i, 0, self);
    const double value = self[0] * (s[0] + s[3] + s[5]);
    sums.value += value;
    const bool unequal = !model.radii.empty();
    sums.radius[unequal ? i : 0] -= value / (unequal ? model.radii(i) : model.radius);
  }
}

void add_kernel_self(const MobilityModel& model, const MobilityPlan& plan, ParameterSums& sums) {
  const KernelSelf self = periodic_self(model, plan);
  sums.value += contract(sums.self, self.value);
  sums.radius[0] += contract(sums.self, self.radius);
}

ParameterSums backward_of_one(const Context& context, const MobilityModel& model,
                              const MobilityPlan& plan, View<const double, 2> x,
                              const Scalar& scalar, View<double, 2> X,
                              const MobilityGradients& gradients) {
  const Particles& particles = particles_of(model, plan, x);
  const std::int64_t n = particles.n;
  const PairSystem system = system_of(model, plan, particles);
  const Columns force(scalar.F), adjoint(scalar.G);
  const PairCotangent cotangent = {{force.pointers[0], force.pointers[1], force.pointers[2]},
                                   {adjoint.pointers[0], adjoint.pointers[1], adjoint.pointers[2]},
                                   scalar.C.data,
                                   3 * n};
  std::vector<GradientSums> rows(n);
  const auto row = MLCORE_DISPATCH(mobility_gradient_row);
  detail::parallel_for(context, n, 8, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      rows[i] = {};
      row(system, cotangent, i, n, rows[i]);
    }
  });
  ParameterSums sums;
  const bool unequal = !model.radii.empty();
  sums.radius.assign(unequal ? n : 1, 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    for (int a = 0; a < 3; ++a) X(i, a) = rows[i].x[a];
    sums.value += 0.5 * rows[i].value;  // every pair was met twice
    sums.radius[unequal ? i : 0] += unequal ? rows[i].radius : 0.5 * rows[i].radius;
    double s[6];
    scalar.self_weight(i, s);
    for (int m = 0; m < 6; ++m) sums.self[m] += s[m];
  }
  if (plan.ewald) {
    add_kernel_self(model, plan, sums);
    if (scalar.C.data) {
      add_matrix_waves(context, model, plan, particles, scalar.C, X, sums);
    } else {
      const auto waves =
          detail::add_wave_gradients(context, model, plan, particles, scalar.F, scalar.G, X);
      sums.value += waves.value;
      sums.radius[0] += waves.radius;
    }
  } else if (model.kernel == Kernel::rpy_wall) {
    add_wall_self(model, x, scalar, X, sums);
  } else if (model.kernel != Kernel::none) {
    add_open_self(model, n, scalar, sums);
  }
  if (plan.table_term >= 0 && wants_table(gradients)) {
    add_table_gradients(plan, particles, cotangent, sums.self, gradients);
  }
  return sums;
}

/// The same on the GPU; parameters' derivatives go to CPU memory all the same.
ParameterSums backward_on_gpu(const Context& context, const MobilityModel& model,
                              const MobilityPlan& plan, View<const double, 2> x,
                              const Scalar& scalar, View<double, 2> X,
                              const MobilityGradients& gradients) {
  const bool table = plan.table_term >= 0 && wants_table(gradients);
  const std::int64_t count = model.table.par.shape[0];
  std::vector<double> knots(table ? 4 * count : 0);
  ParameterSums sums =
      cuda::mobility_backward(context, model, plan, {x, scalar.F, scalar.G, scalar.C}, X, knots);
  if (plan.ewald) add_kernel_self(model, plan, sums);
  if (!table) return sums;
  int row = 0;
  for (const auto& to : {gradients.par, gradients.dpar, gradients.perp, gradients.dperp}) {
    for (std::int64_t k = 0; k < to.shape[0]; ++k) to(k) += knots[row * count + k];
    ++row;
  }
  add_own_images(plan, sums.self, gradients);
  return sums;
}

// -- checks and batches ---------------------------------------------------------------------------

template <std::size_t Rank>
void check_shape(const char* name, View<const double, Rank> v,
                 const std::array<std::int64_t, Rank>& s) {
  if (v.shape == s) return;
  std::string want, got;
  for (std::size_t k = 0; k < Rank; ++k) {
    want += (k ? ", " : "") + std::to_string(s[k]);
    got += (k ? ", " : "") + std::to_string(v.shape[k]);
  }
  detail::raise<InvalidArgument>(name, " must have the shape (", want, "), got (", got, ")");
}

void check_values(const char* name, View<const double, 3> v, Device device) {
  MLCORE_CHECK(v.device == device, "all arrays must live on the same device, but ", name,
               " is not where x is");
  if (device == Device::cpu) check_finite(name, v);  // the GPU's kernels look there
}

void check_vectors(const char* name, View<const double, 3> v, View<const double, 3> x) {
  check_shape<3>(name, v, {x.shape[0], x.shape[1], 3});
  check_values(name, v, x.device);
}

void check_output(const char* name, View<double, 3> v, View<const double, 3> x) {
  check_shape<3>(name, v, {x.shape[0], x.shape[1], 3});
  MLCORE_CHECK(v.device == x.device, "all arrays must live on the same device, but ", name,
               " is not where x is");
}

void check_gradients(const MobilityModel& model, View<const double, 3> x,
                     const MobilityGradients& g) {
  if (!g.x.empty()) check_output("gradient of x", g.x, x);
  const auto check = [](const char* name, View<double, 1> v, std::int64_t n) {
    if (v.empty()) return;
    check_shape<1>(name, v, {n});
    MLCORE_CHECK(v.device == Device::cpu, "the ", name, " must lie in CPU memory");
  };
  check("gradient of radius", g.radius, model.radii.empty() ? 1 : x.shape[1]);
  check("gradient of viscosity", g.viscosity, 1);
  check("gradient of self", g.self, 1);
  const std::int64_t knots = model.table.par.shape[0];
  check("gradient of par", g.par, knots);
  check("gradient of dpar", g.dpar, knots);
  check("gradient of perp", g.perp, knots);
  check("gradient of dperp", g.dperp, knots);
}

void clear(const MobilityGradients& g) {
  if (g.x.device == Device::cpu) std::fill(g.x.begin(), g.x.end(), 0.0);
  for (const auto& v : {g.radius, g.viscosity, g.self, g.par, g.dpar, g.perp, g.dperp}) {
    if (!v.empty()) std::fill(v.begin(), v.end(), 0.0);
  }
}

/// Configurations one after the other, each on all threads: so sums keep their order.
template <class ScalarOf>
void backward(const Context& context, const MobilityModel& model, const Cell& cell, EwaldUse use,
              View<const double, 3> x, const ScalarOf& scalar_of, const MobilityGradients& g) {
  check_gradients(model, x, g);
  clear(g);
  if (x.empty()) return;
  const std::int64_t n = x.shape[1];
  const MobilityPlan plan = detail::mobility_plan(model, cell, use, n);
  const bool gpu = x.device == Device::cuda;
  std::vector<double> unwanted(g.x.empty() && !gpu ? 3 * n : 0);
  for (std::int64_t b = 0; b < x.shape[0]; ++b) {
    View<double, 2> X(unwanted.data(), {gpu ? 0 : n, 3});
    if (!g.x.empty()) X = g.x[b];
    const auto of_one = gpu ? backward_on_gpu : backward_of_one;
    const ParameterSums sums = of_one(context, model, plan, x[b], scalar_of(b), X, g);
    for (std::int64_t k = 0; k < g.radius.shape[0]; ++k) g.radius(k) += sums.radius[k];
    if (!g.viscosity.empty()) g.viscosity(0) -= sums.value / model.viscosity;
    if (!g.self.empty()) g.self(0) += trace(sums.self);
  }
}

template <class Body>
void for_each_plan(const MobilityModel& model, const Cell& cell, View<const double, 3> x,
                   const Body& body) {
  if (x.empty()) return;
  const MobilityPlan plan = detail::mobility_plan(model, cell, EwaldUse::apply, x.shape[1]);
  for (std::int64_t b = 0; b < x.shape[0]; ++b) body(b, plan);
}

template <class Body>
void for_each_configuration(const MobilityModel& model, const Cell& cell, View<const double, 3> x,
                            const Body& body) {
  for_each_plan(model, cell, x, [&](std::int64_t b, const MobilityPlan& plan) {
    const Particles& particles = particles_of(model, plan, x[b]);
    body(b, plan, particles, system_of(model, plan, particles));
  });
}

}  // namespace

void mobility_apply_backward(const Context& context, const MobilityModel& model, const Cell& cell,
                             View<const double, 3> x, View<const double, 3> F,
                             View<const double, 3> G, const MobilityGradients& gradients) {
  check_vectors("x", x, x);
  check_vectors("F", F, x);
  check_vectors("G", G, x);
  detail::check_mobility(model, cell, x.shape[1]);
  backward(
      context, model, cell, EwaldUse::apply, x,
      [&](std::int64_t b) { return Scalar{F[b], G[b], {}}; }, gradients);
}

void mobility_matrix_backward(const Context& context, const MobilityModel& model, const Cell& cell,
                              View<const double, 3> x, View<const double, 3> C,
                              const MobilityGradients& gradients) {
  check_vectors("x", x, x);
  check_shape<3>("C", C, {x.shape[0], 3 * x.shape[1], 3 * x.shape[1]});
  check_values("C", C, x.device);
  detail::check_mobility(model, cell, x.shape[1]);
  backward(
      context, model, cell, EwaldUse::matrix, x,
      [&](std::int64_t b) { return Scalar{{}, {}, C[b]}; }, gradients);
}

void mobility_apply_tangent(const Context& context, const MobilityModel& model, const Cell& cell,
                            View<const double, 3> x, View<const double, 3> F,
                            View<const double, 3> H, View<double, 3> dV) {
  check_vectors("x", x, x);
  check_vectors("F", F, x);
  check_vectors("H", H, x);
  check_output("dV", dV, x);
  detail::check_mobility(model, cell, x.shape[1]);
  if (x.device == Device::cuda) {
    return for_each_plan(model, cell, x, [&](std::int64_t b, const MobilityPlan& plan) {
      cuda::mobility_tangent(context, model, plan, x[b], F[b], H[b], dV[b]);
    });
  }
  const auto row = MLCORE_DISPATCH(mobility_tangent_row);
  for_each_configuration(model, cell, x,
                         [&](std::int64_t b, const MobilityPlan& plan, const Particles& particles,
                             const PairSystem& system) {
                           const Columns force(F[b]), motion(H[b]);
                           const View<double, 2> out = dV[b];
                           detail::parallel_for(
                               context, particles.n, 8,
                               [&](std::int64_t begin, std::int64_t end, int) {
                                 for (std::int64_t i = begin; i < end; ++i) {
                                   double v[3] = {};
                                   row(system, force.pointers, motion.pointers, i, particles.n, v);
                                   for (int a = 0; a < 3; ++a) out(i, a) = v[a];
                                   if (!system.wall) continue;
                                   const WallSelf w = wall_self(model, x(b, i, 2));
                                   for (int a = 0; a < 3; ++a) {
                                     out(i, a) += w.slope[a == 2] * H(b, i, 2) * F(b, i, a);
                                   }
                                 }
                               });
                           if (plan.ewald)
                             detail::add_wave_tangents(context, plan, particles, F[b], H[b], out);
                         });
}

void mobility_apply_hessian(const Context& context, const MobilityModel& model, const Cell& cell,
                            View<const double, 3> x, View<const double, 3> F,
                            View<const double, 3> G, View<const double, 3> H, View<double, 3> dX) {
  check_vectors("x", x, x);
  check_vectors("F", F, x);
  check_vectors("G", G, x);
  check_vectors("H", H, x);
  check_output("dX", dX, x);
  detail::check_mobility(model, cell, x.shape[1]);
  if (x.device == Device::cuda) {
    return for_each_plan(model, cell, x, [&](std::int64_t b, const MobilityPlan& plan) {
      cuda::mobility_hessian(context, model, plan, x[b], F[b], G[b], H[b], dX[b]);
    });
  }
  const auto row = MLCORE_DISPATCH(mobility_hessian_row);
  for_each_configuration(
      model, cell, x,
      [&](std::int64_t b, const MobilityPlan& plan, const Particles& particles,
          const PairSystem& system) {
        const Columns force(F[b]), adjoint(G[b]), motion(H[b]);
        const PairCotangent cotangent = {
            {force.pointers[0], force.pointers[1], force.pointers[2]},
            {adjoint.pointers[0], adjoint.pointers[1], adjoint.pointers[2]},
            nullptr,
            0};
        const View<double, 2> out = dX[b];
        detail::parallel_for(
            context, particles.n, 8, [&](std::int64_t begin, std::int64_t end, int) {
              for (std::int64_t i = begin; i < end; ++i) {
                double v[3] = {};
                row(system, cotangent, motion.pointers, i, particles.n, v);
                for (int a = 0; a < 3; ++a) out(i, a) = v[a];
                if (!system.wall) continue;
                const WallSelf w = wall_self(model, x(b, i, 2));
                const double along = F(b, i, 0) * G(b, i, 0) + F(b, i, 1) * G(b, i, 1);
                out(i, 2) += H(b, i, 2) *
                             (w.curvature[0] * along + w.curvature[1] * F(b, i, 2) * G(b, i, 2));
              }
            });
        if (plan.ewald) detail::add_wave_hessian(context, plan, particles, F[b], G[b], H[b], out);
      });
}

}  // namespace mlcore
