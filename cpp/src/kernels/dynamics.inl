// Compiled once per instruction set; see simd.hpp. One formula for a pair and one order of the sums
// for a number of particles, so that a replica alone and among others moves alike.

#include "kernels/dynamics.hpp"
#include "kernels/lanes.hpp"
#include "kernels/sphere.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

using V = Doubles;
constexpr int kLanes = kLanesOf<double>;
constexpr int kExactDivision = 3;  // particles up to which latency counts, not throughput

MLCORE_LANES V nearest(V x) { return (x + 0x1.8p52) - 0x1.8p52; }
MLCORE_LANES V select(Longs mask, V a, V b) { return mask ? a : b; }
MLCORE_LANES V root(V v) {
#if defined(MLCORE_ISA_IS_avx512)
  return (V)_mm512_maskz_sqrt_pd(0xff, (__m512d)v);
#else
  V y;
  for (int lane = 0; lane < kLanes; ++lane) y[lane] = __builtin_sqrt(v[lane]);
  return y;
#endif
}
template <bool Exact>
MLCORE_LANES V inverted(V v) {
  if constexpr (Exact) {
    return 1.0 / v;
  } else {
    return reciprocal(v);
  }
}

/// -(dU/dr) / r of the Lennard-Jones potential at the inverse square distance.
MLCORE_LANES V lennard_jones(V inverse2, V twelve, V six) {
  const V inverse4 = inverse2 * inverse2, inverse6 = inverse4 * inverse2;
  return fma(twelve, inverse6, -six) * (inverse4 * inverse4);
}

/// cos y for |y| < 1e6.
MLCORE_LANES V cosine(V y) {
  const V turns = y * 0.31830988618379067154;  // half turns
  const V shifted = turns + 0x1.8p52, k = shifted - 0x1.8p52;
  V r = y - k * 3.14159265346825122833;  // pi in three parts, the first two of 33 bits
  r = r - k * 1.21542010130123852e-10;
  r = r - k * 4.04453249758099129e-21;
  const V u = r * r;
  V p = all(-1.51197786600161e-16);
  const double c[] = {4.77687173341536804e-14, -1.14706701428640747e-11, 2.08767556660535297e-9,
                      -2.75573192096473387e-7, 0.000024801587301492585,  -0.00138888888888885295,
                      0.0416666666666666597,   -0.499999999999999999,    1.0};
#pragma GCC unroll 16
  for (int k = 0; k < 9; ++k) p = fma(p, u, all(c[k]));
  return (V)((Longs)p ^ ((Longs)shifted << 63));
}

/// Trap and landscape force on one coordinate.
MLCORE_LANES V external(const VerletPlan& plan, V x) {
  const V trap = -(plan.trap * x);
  switch (plan.landscape) {
    case Landscape::none:
      return trap;
    case Landscape::double_well:
      return trap + fnma(x * x, x, x);
    case Landscape::lennard_jones:
      return fma(lennard_jones(1.0 / (x * x), all(plan.landscape12), all(plan.landscape6)), x,
                 trap);
    case Landscape::rugged: {
      const V slope = fma(fma(fma(all(-4.0), x, all(3.0)), x, all(32.0)), x, all(-4.0));
      return trap + fnma(all(6.0), cosine(30.0 * (x + 5.0)), slope * 0.02);
    }
  }
  return trap;
}

/// -(dU/dr) / r of the repulsive wall at the square distance from the centre.
MLCORE_LANES V wall_push(const VerletPlan& plan, V square) {
  const V r = root(square), gap = plan.wall_radius - r;
  const V s = plan.wall_sigma / gap, s3 = s * s * s, s6 = s3 * s3;
  const V push = -plan.wall_strength * (s6 * fma(all(2.0), s6, all(-1.0))) / (gap * r);
  return select((gap < plan.wall_reach) & (square > 0.0), push, V{});
}

/// Adds the wall's force on kLanes particles.
MLCORE_LANES void add_wall(const VerletPlan& plan, int d, const double* x, double* f,
                           std::int64_t stride) {
  V square{};
  for (int k = 0; k < d; ++k) square = fma(load(x + k * stride), load(x + k * stride), square);
  const V push = wall_push(plan, square);
  for (int k = 0; k < d; ++k) {
    store(f + k * stride, fma(push, load(x + k * stride), load(f + k * stride)));
  }
}

template <bool Periodic>
MLCORE_LANES V wrapped(const VerletPlan& plan, V distance) {
  if constexpr (Periodic) {
    return fnma(nearest(distance * plan.inverse_box), all(plan.box), distance);
  } else {
    return distance;
  }
}

/// Pair force over distance, cut off if `Cut`.
template <bool Exact, bool Cut>
MLCORE_LANES V pair_push(const VerletPlan& plan, V square) {
  const V push = lennard_jones(inverted<Exact>(square), all(plan.pair12), all(plan.pair6));
  return Cut ? select(square < plan.cutoff2, push, V{}) : push;
}

// ---------------------------------------------------------------- lanes are replicas
/// Few particles in open space without walls, everything in registers.
template <int N, int D, Landscape L>
struct Small {
  static constexpr int kSize = N * D;

  MLCORE_LANES void forces(const VerletPlan& plan, const V (&x)[kSize], V (&f)[kSize]) {
#pragma GCC unroll 16
    for (int c = 0; c < kSize; ++c) {
      f[c] = L == Landscape::none ? -(plan.trap * x[c]) : external(plan, x[c]);
    }
    if (N > 1 && plan.pairs) {
#pragma GCC unroll 4
      for (int i = 1; i < N; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < i; ++j) pair(plan, x + i * D, x + j * D, f + i * D, f + j * D);
      }
    }
  }

  MLCORE_LANES void pair(const VerletPlan& plan, const V* xi, const V* xj, V* fi, V* fj) {
    V d[D];
#pragma GCC unroll 4
    for (int k = 0; k < D; ++k) d[k] = xi[k] - xj[k];
    V square = d[0] * d[0];
#pragma GCC unroll 4
    for (int k = 1; k < D; ++k) square = fma(d[k], d[k], square);
    const V push = pair_push<true, false>(plan, square);
#pragma GCC unroll 4
    for (int k = 0; k < D; ++k) {
      fi[k] = fma(push, d[k], fi[k]);
      fj[k] = fnma(push, d[k], fj[k]);
    }
  }

  static void run(const VerletPlan& plan, std::int64_t steps, double* px, double* pv, double* pf,
                  const double* kick) {
    V x[kSize], v[kSize], f[kSize];
#pragma GCC unroll 16
    for (int c = 0; c < kSize; ++c) {
      x[c] = load(px + c * kLanes);
      v[c] = load(pv + c * kLanes);
      f[c] = load(pf + c * kLanes);
    }
    for (std::int64_t step = 0; step < steps; ++step) {
      for (int stage = 0; stage < plan.stages; ++stage) {
        const double* k = kick + stage * N * kLanes;
        const V drift = all(plan.drift[stage]);
#pragma GCC unroll 16
        for (int c = 0; c < kSize; ++c) {
          v[c] = fma(load(k + c / D * kLanes), f[c], v[c]);
          x[c] = fma(drift, v[c], x[c]);
        }
        forces(plan, x, f);
      }
      const double* k = kick + plan.stages * N * kLanes;
#pragma GCC unroll 16
      for (int c = 0; c < kSize; ++c) v[c] = fma(load(k + c / D * kLanes), f[c], v[c]);
    }
#pragma GCC unroll 16
    for (int c = 0; c < kSize; ++c) {
      store(px + c * kLanes, x[c]);
      store(pv + c * kLanes, v[c]);
      store(pf + c * kLanes, f[c]);
    }
  }
};

/// Any number of particles.
template <int D, bool Exact, bool Cut, bool Periodic>
void pairs_of_replicas(const VerletPlan& plan, int n, const double* x, double* f) {
  for (int i = 1; i < n; ++i) {
    V xi[D], fi[D];
    for (int k = 0; k < D; ++k) {
      xi[k] = load(x + (i * D + k) * kLanes);
      fi[k] = load(f + (i * D + k) * kLanes);
    }
    for (int j = 0; j < i; ++j) {
      V d[D];
      for (int k = 0; k < D; ++k) {
        d[k] = wrapped<Periodic>(plan, xi[k] - load(x + (j * D + k) * kLanes));
      }
      V square = d[0] * d[0];
      for (int k = 1; k < D; ++k) square = fma(d[k], d[k], square);
      const V push = pair_push<Exact, Cut>(plan, square);
      for (int k = 0; k < D; ++k) {
        double* fj = f + (j * D + k) * kLanes;
        fi[k] = fma(push, d[k], fi[k]);
        store(fj, fnma(push, d[k], load(fj)));
      }
    }
    for (int k = 0; k < D; ++k) store(f + (i * D + k) * kLanes, fi[k]);
  }
}

template <int D, bool Exact>
void pairs_of_replicas(const VerletPlan& plan, int n, const double* x, double* f) {
  const bool cut = plan.cutoff2 < __builtin_inf();
  if (plan.box > 0) return pairs_of_replicas<D, Exact, true, true>(plan, n, x, f);
  if (cut) return pairs_of_replicas<D, Exact, true, false>(plan, n, x, f);
  pairs_of_replicas<D, Exact, false, false>(plan, n, x, f);
}

template <int D>
void forces_of_replicas(const VerletPlan& plan, int n, const double* x, double* f) {
  for (int c = 0; c < n * D; ++c) store(f + c * kLanes, external(plan, load(x + c * kLanes)));
  if (plan.wall == WallKind::wca) {
    for (int i = 0; i < n; ++i) add_wall(plan, D, x + i * D * kLanes, f + i * D * kLanes, kLanes);
  }
  if (!plan.pairs) return;
  if (n <= kExactDivision) return pairs_of_replicas<D, true>(plan, n, x, f);
  pairs_of_replicas<D, false>(plan, n, x, f);
}

template <int D>
void run_replicas(const VerletPlan& plan, int n, std::int64_t steps, double* x, double* v,
                  double* f, const double* kick) {
  for (std::int64_t step = 0; step < steps; ++step) {
    for (int stage = 0; stage <= plan.stages; ++stage) {
      const double* k = kick + stage * n * kLanes;
      for (int i = 0; i < n; ++i) {
        for (int c = i * D; c < (i + 1) * D; ++c) {
          store(v + c * kLanes,
                fma(load(k + i * kLanes), load(f + c * kLanes), load(v + c * kLanes)));
        }
      }
      if (stage == plan.stages) break;
      const double drift = plan.drift[stage];
      if (plan.wall == WallKind::specular) {
        for (int i = 0; i < n; ++i) {
          drift_inside(plan.wall_radius, D, drift, x + i * D * kLanes, v + i * D * kLanes, kLanes);
        }
      } else {
        for (int c = 0; c < n * D; ++c) {
          store(x + c * kLanes, fma(all(drift), load(v + c * kLanes), load(x + c * kLanes)));
        }
      }
      forces_of_replicas<D>(plan, n, x, f);
    }
  }
}

/// Runs a small system if it is one.
template <int N, int D>
bool run_small(const VerletPlan& plan, std::int64_t steps, double* x, double* v, double* f,
               const double* kick) {
  if (plan.landscape == Landscape::none) {
    Small<N, D, Landscape::none>::run(plan, steps, x, v, f, kick);
    return true;
  }
  if constexpr (N == 1 && D == 1) {
    if (plan.landscape == Landscape::double_well) {
      Small<1, 1, Landscape::double_well>::run(plan, steps, x, v, f, kick);
    } else if (plan.landscape == Landscape::rugged) {
      Small<1, 1, Landscape::rugged>::run(plan, steps, x, v, f, kick);
    } else {
      Small<1, 1, Landscape::lennard_jones>::run(plan, steps, x, v, f, kick);
    }
    return true;
  }
  return false;
}

bool run_small(const VerletPlan& plan, int n, int d, std::int64_t steps, double* x, double* v,
               double* f, const double* kick) {
  if (n > 3 || plan.wall != WallKind::none) return false;
  if (plan.pairs && (plan.box > 0 || plan.cutoff2 < __builtin_inf())) return false;
  switch (10 * n + d) {
    case 11:
      return run_small<1, 1>(plan, steps, x, v, f, kick);
    case 21:
      return run_small<2, 1>(plan, steps, x, v, f, kick);
    case 31:
      return run_small<3, 1>(plan, steps, x, v, f, kick);
    case 13:
      return run_small<1, 3>(plan, steps, x, v, f, kick);
    case 23:
      return run_small<2, 3>(plan, steps, x, v, f, kick);
    case 33:
      return run_small<3, 3>(plan, steps, x, v, f, kick);
    default:
      return false;
  }
}

// ---------------------------------------------------------------- lanes are particles
/// Forces of all particles on B blocks of kLanes.
template <int D, int B, bool Cut, bool Periodic>
MLCORE_LANES void pairs_of_blocks(const VerletPlan& plan, std::int64_t n, std::int64_t padded,
                                  const double* x, const double* eye, V (&f)[D][B],
                                  const V (&xi)[D][B]) {
  for (std::int64_t j = 0; j < n; ++j) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      V d[D];
#pragma GCC unroll 4
      for (int k = 0; k < D; ++k) d[k] = wrapped<Periodic>(plan, xi[k][b] - all(x[k * padded + j]));
      V square = fma(d[0], d[0], load(eye - j + b * kLanes));
#pragma GCC unroll 4
      for (int k = 1; k < D; ++k) square = fma(d[k], d[k], square);
      const V push = pair_push<false, Cut>(plan, square);
#pragma GCC unroll 4
      for (int k = 0; k < D; ++k) f[k][b] = fma(push, d[k], f[k][b]);
    }
  }
}

/// Blocks from `first` on; eye + n is the diagonal of the first particle of all.
template <int D, int B, bool Cut, bool Periodic>
void forces_of_blocks(const VerletPlan& plan, std::int64_t n, std::int64_t padded,
                      std::int64_t first, const double* x, double* f, const double* eye) {
  V xi[D][B], fi[D][B];
  for (int k = 0; k < D; ++k) {
    for (int b = 0; b < B; ++b) {
      xi[k][b] = load(x + k * padded + first + b * kLanes);
      fi[k][b] = external(plan, xi[k][b]);
    }
  }
  if (plan.wall == WallKind::wca) {
    for (int b = 0; b < B; ++b) {
      V square{};
      for (int k = 0; k < D; ++k) square = fma(xi[k][b], xi[k][b], square);
      const V push = wall_push(plan, square);
      for (int k = 0; k < D; ++k) fi[k][b] = fma(push, xi[k][b], fi[k][b]);
    }
  }
  if (plan.pairs) {
    pairs_of_blocks<D, B, Cut, Periodic>(plan, n, padded, x, eye + n + first, fi, xi);
  }
  for (int k = 0; k < D; ++k) {
    for (int b = 0; b < B; ++b) store(f + k * padded + first + b * kLanes, fi[k][b]);
  }
}

template <int D, bool Cut, bool Periodic>
void forces_of_particles(const VerletPlan& plan, std::int64_t n, std::int64_t padded,
                         const double* x, double* f, const double* eye) {
  std::int64_t first = 0;
  for (; first + 2 * kLanes <= padded; first += 2 * kLanes) {
    forces_of_blocks<D, 2, Cut, Periodic>(plan, n, padded, first, x, f, eye);
  }
  for (; first < padded; first += kLanes) {
    forces_of_blocks<D, 1, Cut, Periodic>(plan, n, padded, first, x, f, eye);
  }
}

#if defined(MLCORE_ISA_IS_avx512)
/// Lane i of the result is lane i + R.
template <int R>
MLCORE_LANES V rotated(V v) {
  if constexpr (R == 0) return v;
  return (V)_mm512_maskz_alignr_epi64(0xff, (__m512i)v, (__m512i)v, R);
}

/// Pairs of lane i of one block with lane i + R of another (or the same); each acts on both, or on
/// the first alone where the same pair comes from the other side, too.
template <int D, int R, bool Both, bool Cut, bool Periodic>
MLCORE_LANES void rotation(const VerletPlan& plan, const V (&xi)[D], const V (&xj)[D], V (&fi)[D],
                           V (&fj)[D]) {
  V d[D];
#pragma GCC unroll 4
  for (int k = 0; k < D; ++k) d[k] = wrapped<Periodic>(plan, xi[k] - rotated<R>(xj[k]));
  V square = d[0] * d[0];
#pragma GCC unroll 4
  for (int k = 1; k < D; ++k) square = fma(d[k], d[k], square);
  const V push = pair_push<false, Cut>(plan, square);
#pragma GCC unroll 4
  for (int k = 0; k < D; ++k) {
    const V pull = push * d[k];
    fi[k] += pull;
    if (Both) fj[k] -= rotated<(kLanes - R) % kLanes>(pull);
  }
}

template <int D, bool Cut, bool Periodic>
MLCORE_LANES void within_block(const VerletPlan& plan, const V (&x)[D], V (&f)[D]) {
  rotation<D, 1, true, Cut, Periodic>(plan, x, x, f, f);
  rotation<D, 2, true, Cut, Periodic>(plan, x, x, f, f);
  rotation<D, 3, true, Cut, Periodic>(plan, x, x, f, f);
  rotation<D, 4, false, Cut, Periodic>(plan, x, x, f, f);
}

/// Two blocks, every pair once.
template <int D, bool Cut, bool Periodic>
void forces_of_two_blocks(const VerletPlan& plan, const double* x, double* f) {
  constexpr int kPadded = 2 * kLanes;
  V x0[D], x1[D], f0[D], f1[D];
  for (int k = 0; k < D; ++k) {
    x0[k] = load(x + k * kPadded);
    x1[k] = load(x + k * kPadded + kLanes);
    f0[k] = external(plan, x0[k]);
    f1[k] = external(plan, x1[k]);
  }
  within_block<D, Cut, Periodic>(plan, x0, f0);
  within_block<D, Cut, Periodic>(plan, x1, f1);
  rotation<D, 0, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  rotation<D, 1, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  rotation<D, 2, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  rotation<D, 3, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  rotation<D, 4, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  rotation<D, 5, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  rotation<D, 6, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  rotation<D, 7, true, Cut, Periodic>(plan, x0, x1, f0, f1);
  for (int k = 0; k < D; ++k) {
    store(f + k * kPadded, f0[k]);
    store(f + k * kPadded + kLanes, f1[k]);
  }
  if (plan.wall != WallKind::wca) return;
  for (int b = 0; b < 2; ++b) add_wall(plan, D, x + b * kLanes, f + b * kLanes, kPadded);
}

/// Whether what pads two blocks is far from every particle.
bool fits_two_blocks(const VerletPlan& plan, std::int64_t n, std::int64_t padded) {
  if (padded != 2 * kLanes || !plan.pairs) return false;
  return n == padded || (plan.box == 0 && plan.wall == WallKind::none);
}

template <int D>
void forces_of_two_blocks(const VerletPlan& plan, const double* x, double* f) {
  const bool cut = plan.cutoff2 < __builtin_inf();
  if (plan.box > 0) return forces_of_two_blocks<D, true, true>(plan, x, f);
  if (cut) return forces_of_two_blocks<D, true, false>(plan, x, f);
  forces_of_two_blocks<D, false, false>(plan, x, f);
}
#endif

template <int D>
void all_forces(const VerletPlan& plan, std::int64_t n, std::int64_t padded, const double* x,
                double* f, const double* eye) {
#if defined(MLCORE_ISA_IS_avx512)
  if (fits_two_blocks(plan, n, padded)) return forces_of_two_blocks<D>(plan, x, f);
#endif
  const bool cut = plan.cutoff2 < __builtin_inf();
  if (plan.box > 0) return forces_of_particles<D, true, true>(plan, n, padded, x, f, eye);
  if (cut) return forces_of_particles<D, true, false>(plan, n, padded, x, f, eye);
  forces_of_particles<D, false, false>(plan, n, padded, x, f, eye);
}

/// v += kick f, x += drift v for `padded` particles (a multiple of kLanes).
template <int D>
MLCORE_LANES void move(const VerletPlan& plan, std::int64_t padded, double drift, double* x,
                       double* v, const double* f, const double* kick) {
  for (std::int64_t i = 0; i < padded; i += kLanes) {
    for (int k = 0; k < D; ++k) {
      const std::int64_t at = k * padded + i;
      store(v + at, fma(load(kick + i), load(f + at), load(v + at)));
    }
    if (plan.wall == WallKind::specular) {
      drift_inside(plan.wall_radius, D, drift, x + i, v + i, padded);
    } else {
      for (int k = 0; k < D; ++k) {
        const std::int64_t at = k * padded + i;
        store(x + at, fma(all(drift), load(v + at), load(x + at)));
      }
    }
  }
}

template <int D>
void run_particles(const VerletPlan& plan, std::int64_t n, std::int64_t padded, std::int64_t steps,
                   double* x, double* v, double* f, const double* kick, const double* eye) {
  for (std::int64_t step = 0; step < steps; ++step) {
    for (int stage = 0; stage < plan.stages; ++stage) {
      move<D>(plan, padded, plan.drift[stage], x, v, f, kick + stage * padded);
      all_forces<D>(plan, n, padded, x, f, eye);
    }
    for (int k = 0; k < D; ++k) {
      for (std::int64_t i = 0; i < padded; i += kLanes) {
        const std::int64_t at = k * padded + i;
        store(v + at, fma(load(kick + plan.stages * padded + i), load(f + at), load(v + at)));
      }
    }
  }
}

// ---------------------------------------------------------------- neighbor list
/// Loads lane by lane, which is faster than gather instructions where those are microcode.
MLCORE_LANES V gather(const double* x, const std::int32_t* j) {
  V result;
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = x[j[lane]];
  return result;
}

MLCORE_LANES double total(V v) {
  double sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += v[lane];
  return sum;
}

MLCORE_LANES Longs below(std::int64_t count) {
  Longs lanes;
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = lane;
  return lanes < count;
}

template <int D, bool Nearest>
void forces_of_list(const VerletPlan& plan, std::int64_t padded, std::int64_t begin,
                    std::int64_t end, const double* x, const std::int64_t* offsets,
                    const std::int32_t* j, const double* shift, double* f) {
  for (std::int64_t i = begin; i < end; ++i) {
    V sum[D] = {};
    for (std::int64_t p = offsets[i]; p < offsets[i + 1]; p += kLanes) {
      V d[D];
      for (int k = 0; k < D; ++k) {
        d[k] = x[k * padded + i] - gather(x + k * padded, j + p);
        if (Nearest) {
          d[k] = wrapped<true>(plan, d[k]);
        } else if (shift) {
          for (int lane = 0; lane < kLanes && p + lane < offsets[i + 1]; ++lane) {
            d[k][lane] -= shift[3 * (p + lane) + k];
          }
        }
      }
      V square = d[0] * d[0];
      for (int k = 1; k < D; ++k) square = fma(d[k], d[k], square);
      const Longs near = (square < plan.cutoff2) & below(offsets[i + 1] - p);
      square = select(near, square, all(1e30));
      const V push = lennard_jones(reciprocal(square), all(plan.pair12), all(plan.pair6));
      for (int k = 0; k < D; ++k) sum[k] = fma(select(near, push, V{}), d[k], sum[k]);
    }
    double square = 0;
    for (int k = 0; k < D; ++k) {
      const double xk = x[k * padded + i];
      square += xk * xk;
      f[k * padded + i] = external(plan, all(xk))[0] + total(sum[k]);
    }
    if (plan.wall == WallKind::wca) {
      const double push = wall_push(plan, all(square))[0];
      for (int k = 0; k < D; ++k) f[k * padded + i] += push * x[k * padded + i];
    }
  }
}

template <int D>
void listed(const VerletPlan& plan, std::int64_t padded, std::int64_t begin, std::int64_t end,
            const double* x, const std::int64_t* offsets, const std::int32_t* j,
            const double* shift, double* f) {
  if (plan.box > 0 && !shift) {
    return forces_of_list<D, true>(plan, padded, begin, end, x, offsets, j, shift, f);
  }
  forces_of_list<D, false>(plan, padded, begin, end, x, offsets, j, shift, f);
}

}  // namespace

int dynamics_lanes() { return kLanes; }

void verlet_replicas(const VerletPlan& plan, int n, int d, std::int64_t steps, double* x, double* v,
                     double* f, const double* kick) {
  if (run_small(plan, n, d, steps, x, v, f, kick)) return;
  if (d == 1) return run_replicas<1>(plan, n, steps, x, v, f, kick);
  if (d == 2) return run_replicas<2>(plan, n, steps, x, v, f, kick);
  run_replicas<3>(plan, n, steps, x, v, f, kick);
}

void forces_replicas(const VerletPlan& plan, int n, int d, const double* x, double* f) {
  if (d == 1) return forces_of_replicas<1>(plan, n, x, f);
  if (d == 2) return forces_of_replicas<2>(plan, n, x, f);
  forces_of_replicas<3>(plan, n, x, f);
}

void verlet_particles(const VerletPlan& plan, std::int64_t n, std::int64_t padded, int d,
                      std::int64_t steps, double* x, double* v, double* f, const double* kick,
                      const double* eye) {
  if (d == 1) return run_particles<1>(plan, n, padded, steps, x, v, f, kick, eye);
  if (d == 2) return run_particles<2>(plan, n, padded, steps, x, v, f, kick, eye);
  run_particles<3>(plan, n, padded, steps, x, v, f, kick, eye);
}

void forces_particles(const VerletPlan& plan, std::int64_t n, std::int64_t padded, int d,
                      const double* x, double* f, const double* eye) {
  if (d == 1) return all_forces<1>(plan, n, padded, x, f, eye);
  if (d == 2) return all_forces<2>(plan, n, padded, x, f, eye);
  all_forces<3>(plan, n, padded, x, f, eye);
}

void forces_listed(const VerletPlan& plan, std::int64_t padded, int d, std::int64_t begin,
                   std::int64_t end, const double* x, const std::int64_t* offsets,
                   const std::int32_t* j, const double* shift, double* f) {
  if (d == 1) return listed<1>(plan, padded, begin, end, x, offsets, j, shift, f);
  if (d == 2) return listed<2>(plan, padded, begin, end, x, offsets, j, shift, f);
  listed<3>(plan, padded, begin, end, x, offsets, j, shift, f);
}

double kick_and_drift(const VerletPlan& plan, std::int64_t padded, int d, std::int64_t begin,
                      std::int64_t end, double drift, double* x, double* v, const double* f,
                      const double* kick, const double* start) {
  double longest = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    double square = 0, moved = 0;
    for (int k = 0; k < d; ++k) {
      const std::int64_t at = k * padded + i;
      v[at] += kick[i] * f[at];
      const double to = x[at] + drift * v[at];
      square += to * to;
    }
    if (plan.wall == WallKind::specular && square > plan.wall_radius * plan.wall_radius) {
      fly(plan.wall_radius, d, x + i, v + i, padded, drift);
    } else {
      for (int k = 0; k < d; ++k) x[k * padded + i] += drift * v[k * padded + i];
    }
    for (int k = 0; k < d; ++k) {
      const double step = x[k * padded + i] - start[k * padded + i];
      moved += step * step;
    }
    if (!(moved <= longest)) longest = moved;
  }
  return longest;
}

void kick(std::int64_t padded, int d, std::int64_t begin, std::int64_t end, double* v,
          const double* f, const double* kick) {
  for (int k = 0; k < d; ++k) {
    for (std::int64_t i = begin; i < end; ++i) v[k * padded + i] += kick[i] * f[k * padded + i];
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
