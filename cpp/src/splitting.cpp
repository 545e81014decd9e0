#include "mlcore/splitting.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "kernels/pair_potential.hpp"
#include "kernels/splitting.hpp"
#include "parallel.hpp"
#include "scratch.hpp"
#include "splitting_cuda.hpp"
#include "splitting_gradient.hpp"
#include "splitting_lists.hpp"

namespace mlcore {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kSymmetry = 1e-12;         // of the drifts, to rounding
constexpr double kFarthest = 1e8;           // in cutoffs and cells; beyond, a run has blown up
constexpr std::int64_t kAllPairs = 128;     // particles up to which no list is made
constexpr std::int64_t kGrain = 256;        // rows worth waking a thread for
constexpr std::int64_t kPlaceGrain = 8192;  // the same of particles
constexpr std::int64_t kMostKicks = 1024, kMostSpecies = 1024, kMostIntervals = 1 << 20;

// ------------------------------------------------------------------------------------ tables

void check_positive(const char* name, double value) {
  MLCORE_CHECK(std::isfinite(value) && value > 0, name, " must be positive and finite, got ",
               value);
}

void check_tables(const SplittingTables& tables) {
  check_positive("h", tables.step);
  const auto& c = tables.drifts;
  const std::int64_t kicks = c.shape[0] - 1;
  MLCORE_CHECK(kicks >= 1 && kicks <= kMostKicks, "drifts must hold K + 1 numbers with K in 1..",
               kMostKicks, ", got ", c.shape[0]);
  check_finite("drifts", c);
  double sum = 0, largest = 1;
  for (double part : c) largest = std::max(largest, std::fabs(part));
  for (std::int64_t k = 0; k <= kicks; ++k) {
    sum += c(k);
    MLCORE_CHECK(std::fabs(c(k) - c(kicks - k)) <= kSymmetry * largest,
                 "drifts must read the same backwards, but entry ", k, " is ", c(k),
                 " and its mirror image ", c(kicks - k));
  }
  MLCORE_CHECK(std::fabs(sum - 1) <= kSymmetry * largest * static_cast<double>(kicks + 1),
               "drifts must sum up to 1, got ", sum);
  const std::int64_t species = tables.masses.shape[0];
  MLCORE_CHECK(species >= 1 && species <= kMostSpecies, "masses must hold 1..", kMostSpecies,
               " numbers, one per species, got ", species);
  for (double mass : tables.masses) check_positive("masses", mass);
  const auto& shape = tables.coefficients.shape;
  const std::int64_t halves = (kicks + 1) / 2, pairs = species * (species + 1) / 2;
  MLCORE_CHECK(shape[0] == halves && shape[1] == pairs && shape[2] >= 1 &&
                   shape[2] <= kMostIntervals && shape[3] == 4,
               "coefficients must have the shape (", halves, ", ", pairs, ", M, 4) for ", kicks,
               " kicks and ", species, " species, with M in 1..", kMostIntervals, ", got (",
               shape[0], ", ", shape[1], ", ", shape[2], ", ", shape[3], ")");
  check_finite("coefficients", tables.coefficients);
  check_positive("u_lo", tables.u_lo);
  MLCORE_CHECK(std::isfinite(tables.u_hi) && tables.u_hi > tables.u_lo && tables.u_hi < 1e30 &&
                   tables.u_lo > 1e-30,
               "u_hi must lie above u_lo = ", tables.u_lo, ", both within 1e-30..1e30, got ",
               tables.u_hi);
}

/// Tables in the order kernels/splitting.inl reads them.
class Packing {
 public:
  explicit Packing(const SplittingTables& tables)
      : rows_(tables.coefficients.begin(), tables.coefficients.end()) {
    const std::int64_t kicks = tables.drifts.shape[0] - 1, species = tables.masses.shape[0];
    const std::int64_t pairs = tables.coefficients.shape[1], M = tables.coefficients.shape[2];
    for (double c : tables.drifts) drift_.push_back(c * tables.step);
    for (double mass : tables.masses) push_.push_back(tables.step / mass);
    for (std::int64_t k = 0; k < kicks; ++k) {
      table_.push_back(std::min(k, kicks - 1 - k) * pairs * M);
    }
    plan_.stride = std::max<std::int64_t>(species, 8);
    starts_.resize(species * plan_.stride);
    std::int64_t next = 0;
    for (std::int64_t a = 0; a < species; ++a) {
      for (std::int64_t b = a; b < species; ++b, next += M) {
        starts_[a * plan_.stride + b] = starts_[b * plan_.stride + a] = next;
      }
    }
    plan_.kicks = static_cast<int>(kicks);
    plan_.drift = drift_.data();
    plan_.table = table_.data();
    plan_.rows = rows_.data();
    plan_.start = starts_.data();
    plan_.push = push_.data();
    plan_.species = species;
    plan_.intervals = M;
    plan_.u_lo = tables.u_lo;
    plan_.u_hi = tables.u_hi;
    plan_.per_u = static_cast<double>(M) / (tables.u_hi - tables.u_lo);
    plan_.cutoff_square = 1 / (tables.u_lo * tables.u_lo);
    plan_.closest_square = 1 / (tables.u_hi * tables.u_hi);
  }
  Packing(const Packing&) = delete;
  Packing& operator=(const Packing&) = delete;

  const kernels::SplittingPlan& plan() const { return plan_; }
  cuda::SplittingModel model() const {
    return {plan_, static_cast<std::int64_t>(rows_.size()),
            static_cast<std::int64_t>(starts_.size())};
  }

 private:
  kernels::SplittingPlan plan_{};
  std::vector<double> rows_, drift_, push_;
  std::vector<std::int64_t> table_, starts_;
};

// ------------------------------------------------------------------------------------ space

double longest_of(const Cell& cell) {
  double longest = 0;
  for (double entry : cell.rows) longest = std::max(longest, std::fabs(entry));
  return cell.is_open() ? 0 : longest;
}

/// A completed cell as the kernels take it.
kernels::SplittingSpace space_of(const Cell& cell, double wall, double cutoff) {
  kernels::SplittingSpace space{};
  space.wall = wall;
  space.farthest = kFarthest * (cutoff + wall + longest_of(cell));
  if (cell.is_open()) return space;
  space.images = kernels::ImageKind::straight;
  const auto inverse_rows = inverse(cell.rows);
  for (int a = 0; a < 3; ++a) {
    for (int k = 0; k < 3; ++k) {
      space.cell[3 * a + k] = cell.rows[3 * a + k];
      space.inverse_cell[3 * k + a] = cell.pbc[a] ? inverse_rows[3 * k + a] : 0;
      if (a != k && cell.rows[3 * a + k] != 0 && cell.pbc[a]) {
        space.images = kernels::ImageKind::slanted;
      }
    }
    space.edge[a] = cell.rows[4 * a];
    space.inverse_edge[a] = cell.pbc[a] ? 1 / cell.rows[4 * a] : 0;
  }
  return space;
}

/// Whether a pair within the cutoff is always that of nearest images.
bool nearest_is_enough(const Cell& cell, double cutoff) {
  const auto apart = heights(cell);
  for (int a = 0; a < 3; ++a) {
    if (cell.pbc[a] && cutoff > 0.5 * apart[a]) return false;
  }
  return true;
}

// ------------------------------------------------------------------------------------ all pairs

/// Where a cache line starts in memory with kLine elements to spare, so that no vector spans two.
constexpr std::int64_t kLine = 8;
double* at_line(std::vector<double>& memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  return memory.data() + (64 - address % 64) % 64 / sizeof(double);
}

/// What all replicas of few particles share.
class AllPairs {
 public:
  AllPairs(const kernels::SplittingPlan& plan, const kernels::SplittingSpace& space,
           View<const std::int32_t, 1> species, std::int64_t n)
      : plan_(plan), space_(space), n_(n) {
    const std::int64_t lanes = MLCORE_DISPATCH(splitting_lanes)();
    padded_ = (n + lanes - 1) / lanes * lanes;
    wide_ = (n + padded_ + lanes - 1) / lanes * lanes;
    push_.resize(padded_);
    far_.resize(wide_);
    std::fill(far_.begin() + n, far_.end(), 1e30 * plan.cutoff_square);
    const auto kind = [&](std::int64_t i) { return species.data ? species(i % n) : 0; };
    for (std::int64_t i = 0; i < n; ++i) push_[i] = plan.push[kind(i)];
    if (plan.species == 1) return;
    starts_.resize(n / 2 * padded_);
    for (std::int64_t s = 1; 2 * s <= n; ++s) {
      for (std::int64_t i = 0; i < n; ++i) {
        starts_[(s - 1) * padded_ + i] = plan.start[kind(i) * plan.stride + kind(i + s)];
      }
    }
  }

  /// One replica on its way.
  class Replica {
   public:
    Replica(const AllPairs& all, View<double, 2> x, View<double, 2> v)
        : all_(all), memory_(18 * all.wide_ + kLine) {
      double* room = at_line(memory_);
      replica_ = {all.n_,
                  all.padded_,
                  all.wide_,
                  room,
                  room + 3 * all.wide_,
                  room + 6 * all.wide_,
                  room + 12 * all.wide_,
                  all.push_.data(),
                  all.starts_.data(),
                  all.far_.data()};
      for (int k = 0; k < 3; ++k) {
        for (std::int64_t i = 0; i < all.n_; ++i) {
          replica_.x[k * all.wide_ + i] = x(i, k);
          replica_.v[k * all.wide_ + i] = v(i, k);
        }
      }
    }

    std::int64_t steps(std::int64_t steps, double* closest_square, SplittingStatus& status) {
      int number = 0;
      const std::int64_t done = MLCORE_DISPATCH(splitting_steps)(all_.plan_, all_.space_, replica_,
                                                                 steps, closest_square, &number);
      status = static_cast<SplittingStatus>(number);
      return done;
    }

    void write(View<double, 2> x, View<double, 2> v) const {
      for (std::int64_t i = 0; i < all_.n_; ++i) {
        for (int k = 0; k < 3; ++k) {
          x(i, k) = replica_.x[k * all_.wide_ + i];
          v(i, k) = replica_.v[k * all_.wide_ + i];
        }
      }
    }

   private:
    const AllPairs& all_;
    std::vector<double> memory_;
    kernels::SplittingReplica replica_{};
  };

 private:
  const kernels::SplittingPlan& plan_;
  const kernels::SplittingSpace& space_;
  std::int64_t n_, padded_, wide_;
  std::vector<double> push_, far_;
  std::vector<std::int64_t> starts_;
};

// ------------------------------------------------------------------------------------ checks

template <class T, int Rank>
void check_shape(const char* name, View<T, Rank> view, std::array<std::int64_t, Rank> shape) {
  for (int axis = 0; axis < Rank; ++axis) {
    MLCORE_CHECK(view.shape[axis] == shape[axis], name, " must have the length ", shape[axis],
                 " along axis ", axis, ", got ", view.shape[axis]);
  }
}

void check_system(const SplittingSystem& system, std::int64_t n, std::int64_t species) {
  MLCORE_CHECK(system.species.data || species == 1 || n == 0, "species are needed where there are ",
               species, " of them");
  if (system.species.data) {
    check_shape<const std::int32_t, 1>("species", system.species, {n});
    for (std::int32_t s : system.species) {
      MLCORE_CHECK(s >= 0 && s < species, "species must lie in 0..", species - 1, ", got ", s);
    }
  }
  MLCORE_CHECK(std::isfinite(system.wall) && system.wall >= 0,
               "wall must be a positive radius, or 0 for none, got ", system.wall);
  MLCORE_CHECK(system.wall == 0 || system.cell.is_open(),
               "a wall needs open space, not a periodic cell");
}

void check_run(const SplittingSystem& system, const SplittingState& state, std::int64_t every,
               std::int64_t first, std::int64_t last, View<double, 4> x, View<double, 4> v,
               std::int64_t species) {
  const std::int64_t R = state.x.shape[0], n = state.x.shape[1], T = x.shape[1];
  MLCORE_CHECK(state.x.shape[2] == 3, "x must have the shape (R, n, 3), got (", R, ", ", n, ", ",
               state.x.shape[2], ")");
  check_shape<double, 3>("v", state.v, state.x.shape);
  check_shape<std::int64_t, 1>("done", state.done, {R});
  check_shape<double, 1>("closest", state.closest, {R});
  check_shape<std::int32_t, 1>("status", state.status, {R});
  MLCORE_CHECK(v.shape == x.shape, "frames of x and v must have the same shape");
  if (x.data) check_shape<double, 4>("frames", x, {R, T, n, 3});
  MLCORE_CHECK(every >= 1, "every must be at least 1, got ", every);
  MLCORE_CHECK(0 <= first && first <= last && (!x.data || last < std::max<std::int64_t>(T, 1)),
               "frames ", first, " to ", last, " do not lie within the ", T, " given");
  const Device device = state.x.device;
  const bool together = state.v.device == device && state.done.device == device &&
                        state.closest.device == device && state.status.device == device &&
                        (!x.data || (x.device == device && v.device == device));
  MLCORE_CHECK(together, "all arrays must live on the same device");
  check_system(system, n, species);
}

void check_start(const SplittingSystem& system, double farthest, View<double, 2> x,
                 View<double, 2> v, std::int64_t r) {
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    double square = 0;
    for (int k = 0; k < 3; ++k) {
      MLCORE_CHECK(std::fabs(x(i, k)) < farthest, "x must be finite and within -", farthest, "..",
                   farthest, ", but that of particle ", i, " in replica ", r, " is ", x(i, k));
      MLCORE_CHECK(std::isfinite(v(i, k)), "v must be finite, but that of particle ", i,
                   " in replica ", r, " is ", v(i, k));
      square += x(i, k) * x(i, k);
    }
    MLCORE_CHECK(system.wall == 0 || square < 1.000001 * system.wall * system.wall, "particle ", i,
                 " of replica ", r, " lies outside the wall: at the distance ", std::sqrt(square),
                 " from the centre, the radius is ", system.wall);
  }
}

using Places = detail::Scratch<double>;

}  // namespace

struct SplittingLists::State {
  Cell cell;
  std::int64_t particles = 0;
  double cutoff = 0;
  std::vector<detail::SplittingList> lists;

  /// Lists of R replicas of n particles: those kept, or new ones where they are of something else.
  std::vector<detail::SplittingList>& of(std::int64_t R, std::int64_t n, const Cell& now,
                                         double reach) {
    const bool same = particles == n && cutoff == reach && cell.rows == now.rows &&
                      cell.pbc == now.pbc && static_cast<std::int64_t>(lists.size()) == R;
    if (same) return lists;
    cell = now;
    particles = n;
    cutoff = reach;
    lists.assign(R, {});
    return lists;
  }
};

SplittingLists::SplittingLists() : state_(std::make_unique<State>()) {}
SplittingLists::~SplittingLists() = default;
SplittingLists::SplittingLists(SplittingLists&&) noexcept = default;
SplittingLists& SplittingLists::operator=(SplittingLists&&) noexcept = default;

struct PairSplitting::State {
  explicit State(const SplittingTables& tables)
      : packing(tables), step(tables.step), cutoff(1 / tables.u_lo), closest(1 / tables.u_hi) {}

  Packing packing;
  double step, cutoff, closest;
  std::mutex mutex;  // of what follows
  std::shared_ptr<cuda::SplittingOnDevice> on_device;
};

PairSplitting::PairSplitting(const SplittingTables& tables) {
  check_tables(tables);
  state_ = std::make_unique<State>(tables);
}
PairSplitting::~PairSplitting() = default;
PairSplitting::PairSplitting(PairSplitting&&) noexcept = default;
PairSplitting& PairSplitting::operator=(PairSplitting&&) noexcept = default;

int PairSplitting::kicks() const { return state_->packing.plan().kicks; }
std::int64_t PairSplitting::species() const { return state_->packing.plan().species; }
std::int64_t PairSplitting::intervals() const { return state_->packing.plan().intervals; }
double PairSplitting::step() const { return state_->step; }
double PairSplitting::cutoff() const { return state_->cutoff; }
double PairSplitting::closest() const { return state_->closest; }

namespace {

/// A run of all replicas on the CPU.
class Run {
 public:
  Run(const kernels::SplittingPlan& plan, const SplittingSystem& system, const Cell& cell,
      const SplittingState& state, std::int64_t every, std::int64_t first, std::int64_t last,
      View<double, 4> x, View<double, 4> v)
      : plan_(plan),
        system_(system),
        cell_(cell),
        space_(space_of(cell, system.wall, std::sqrt(plan.cutoff_square))),
        state_(state),
        every_(every),
        first_(first),
        last_(last),
        x_(x),
        v_(v) {}

  void all_pairs(const Context& context) const {
    const AllPairs shared(plan_, space_, system_.species, state_.x.shape[1]);
    detail::parallel_for(context, state_.x.shape[0], 1,
                         [&](std::int64_t begin, std::int64_t end, int) {
                           for (std::int64_t r = begin; r < end; ++r) {
                             AllPairs::Replica replica(shared, state_.x[r], state_.v[r]);
                             frames(r, [&](std::int64_t steps, double* closest, auto& status) {
                               const auto done = replica.steps(steps, closest, status);
                               replica.write(state_.x[r], state_.v[r]);
                               return done;
                             });
                           }
                         });
  }

  void listed(const Context& context, std::vector<detail::SplittingList>& lists) const {
    const auto one = [&](const Context& inner, std::int64_t r) {
      frames(r, [&](std::int64_t steps, double* closest, auto& status) {
        return detail::listed_steps(inner, plan_, cell_, space_, system_.species, lists[r], steps,
                                    state_.x[r], state_.v[r], closest, status);
      });
    };
    const std::int64_t R = state_.x.shape[0];
    if (R < detail::resolve_threads(context)) {
      for (std::int64_t r = 0; r < R; ++r) one(context, r);
      return;
    }
    detail::parallel_for(context, R, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t r = begin; r < end; ++r) one(Context{1}, r);
    });
  }

 private:
  /// Frames of one replica; advance(steps, closest_square, status) takes the state along.
  template <class Advance>
  void frames(std::int64_t r, const Advance& advance) const {
    auto status = static_cast<SplittingStatus>(state_.status(r));
    double square = kInfinity;
    for (std::int64_t t = first_; t < last_; ++t) {
      if (status == SplittingStatus::running) {
        state_.done(r) += advance(every_, &square, status);
      }
      write(r, t + 1, status == SplittingStatus::running);
    }
    state_.closest(r) = std::min(state_.closest(r), std::sqrt(square));
    state_.status(r) = static_cast<std::int32_t>(status);
  }

  void write(std::int64_t r, std::int64_t t, bool good) const {
    if (!x_.data) return;
    const View<double, 2> x = x_[r][t], v = v_[r][t];
    if (good) {
      std::copy(state_.x[r].begin(), state_.x[r].end(), x.data);
      std::copy(state_.v[r].begin(), state_.v[r].end(), v.data);
    } else {
      std::fill(x.begin(), x.end(), kNaN);
      std::fill(v.begin(), v.end(), kNaN);
    }
  }

  const kernels::SplittingPlan& plan_;
  const SplittingSystem& system_;
  const Cell& cell_;
  kernels::SplittingSpace space_;
  const SplittingState& state_;
  std::int64_t every_, first_, last_;
  View<double, 4> x_, v_;
};

}  // namespace

void PairSplitting::run(const Context& context, const SplittingSystem& system,
                        const SplittingState& state, std::int64_t every, std::int64_t first,
                        std::int64_t last, View<double, 4> x, View<double, 4> v,
                        SplittingLists* lists) const {
  check_run(system, state, every, first, last, x, v, species());
  Cell cell = completed(system.cell);
  const std::int64_t R = state.x.shape[0], n = state.x.shape[1];
  const bool nearest = nearest_is_enough(cell, cutoff());
  if (state.x.device == Device::cuda) {
    MLCORE_CHECK(nearest, "on the GPU the cutoff ", cutoff(),
                 " must not exceed half the height of the cell; run it on the CPU");
    const std::lock_guard lock(state_->mutex);
    return cuda::splitting_run(context, state_->packing.model(), state_->on_device,
                               space_of(cell, system.wall, cutoff()), system.species, state, every,
                               first, last, x, v);
  }
  const double farthest = space_of(cell, system.wall, cutoff()).farthest;
  for (std::int64_t r = 0; r < R; ++r) check_start(system, farthest, state.x[r], state.v[r], r);
  const Run run(state_->packing.plan(), system, cell, state, every, first, last, x, v);
  if (n == 0 || (n <= kAllPairs && nearest)) return run.all_pairs(context);
  SplittingLists own;
  run.listed(context, (lists ? lists : &own)->state().of(R, n, cell, cutoff()));
}

void PairSplitting::step_gradient(const Context& context, const SplittingSystem& system,
                                  View<const double, 3> x, View<const double, 3> v,
                                  View<double, 3> gx, View<double, 3> gv) const {
  const std::int64_t R = x.shape[0], n = x.shape[1];
  MLCORE_CHECK(x.shape[2] == 3, "x must have the shape (R, n, 3), got (", R, ", ", n, ", ",
               x.shape[2], ")");
  check_shape<const double, 3>("v", v, x.shape);
  check_shape<double, 3>("gx", gx, x.shape);
  check_shape<double, 3>("gv", gv, x.shape);
  for (Device device : {x.device, v.device, gx.device, gv.device}) {
    MLCORE_CHECK(device == Device::cpu, "gradients run on the CPU, but an array lies elsewhere");
  }
  check_system(system, n, species());
  MLCORE_CHECK(system.wall == 0, "wall must be 0: there are no gradients of reflections");
  check_finite("x", x);
  check_finite("v", v);
  const Cell cell = completed(system.cell);
  const bool nearest = nearest_is_enough(cell, cutoff());
  detail::parallel_for(context, R, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      detail::splitting_gradient(state_->packing.plan(), system, cell, nearest, x[r], v[r], gx[r],
                                 gv[r]);
    }
  });
}

double PairSplitting::kick(const Context& context, int stage, const PairRows& rows,
                           View<double, 2> v) const {
  const kernels::SplittingPlan& plan = state_->packing.plan();
  MLCORE_CHECK(stage >= 0 && stage < plan.kicks, "stage must lie in 0..", plan.kicks - 1, ", got ",
               stage);
  MLCORE_CHECK(rows.offsets.shape[0] >= 1, "offsets must hold n + 1 numbers, got none");
  const std::int64_t n = rows.offsets.shape[0] - 1, m = rows.x.shape[0];
  MLCORE_CHECK(rows.x.shape[1] == 3 && m >= n, "x must have the shape (m, 3), m >= ", n,
               " rows, got (", m, ", ", rows.x.shape[1], ")");
  check_shape<double, 2>("v", v, {n, 3});
  MLCORE_CHECK(rows.types.data || plan.species == 1 || n == 0,
               "species are needed where there are ", plan.species, " of them");
  if (rows.types.data) check_shape<const std::int32_t, 1>("species", rows.types, {m});
  for (Device device : {rows.x.device, rows.offsets.device, rows.columns.device, v.device}) {
    MLCORE_CHECK(device == Device::cpu,
                 "a kick alone runs on the CPU, but an array lies elsewhere");
  }
  Places places(4 * m);
  std::atomic<bool> sound{true};
  const auto read = MLCORE_DISPATCH(pair_places);
  detail::parallel_for(context, m, kPlaceGrain, [&](std::int64_t begin, std::int64_t end, int) {
    if (!read(rows.x.data, rows.types.data, rows.first_type, plan.species, begin, end,
              places.data())) {
      sound = false;
    }
  });
  if (!sound) {
    check_finite("x", rows.x);
    detail::raise<InvalidArgument>("species must lie in ", rows.first_type, "..",
                                   rows.first_type + plan.species - 1, ", but one does not");
  }
  const std::int64_t pairs = rows.columns.shape[0];
  const kernels::SplittingRows job{
      places.data(), m, rows.offsets.data, rows.columns.data, pairs, false, v.data};
  const auto kernel = MLCORE_DISPATCH(splitting_kick);
  std::vector<double> closest(detail::resolve_threads(context), kInfinity);
  std::atomic<std::int64_t> bad{-1};
  detail::parallel_for(context, n, kGrain, [&](std::int64_t begin, std::int64_t end, int c) {
    const std::int64_t row = kernel(plan, stage, job, begin, end, &closest[c]);
    if (row >= 0) bad = row;
  });
  MLCORE_CHECK(bad < 0, "offsets must grow from 0 to at most ", pairs,
               ", the number of columns, and columns lie in 0..", m - 1, "; those of row ",
               bad.load(), " do not");
  return std::sqrt(*std::min_element(closest.begin(), closest.end()));
}

}  // namespace mlcore
