#include "fix_splitting.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <utility>

#include "all_ranks.h"
#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "group.h"
#include "modify.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "output.h"
#include "pair.h"
#include "simulation.h"
#include "update.h"
#include "utils.h"

namespace LAMMPS_NS {

namespace {

constexpr mlcore::Context kOneThread{.threads = 1};
constexpr int kMostImages = 20;       // that ghosts may be away
constexpr double kRestart = -1;       // starts what fixes of this style write to restart files
constexpr double kForgetting = 0.95;  // of surprises, in a step
constexpr double kRoom = 1.2;         // of the skin that an error asks for
const std::string kKind = "splitting";

/// Stands for the pair style in steps whose forces nobody reads.
class NoPair : public Pair {
 public:
  explicit NoPair(LAMMPS* lmp) : Pair(lmp) {}
  void compute(int, int) override {}
  void settings(int, char**) override {}
  void coeff(int, char**) override {}
};

/// What Comm shows to its own kind alone.
struct Ghosts : Comm {
  static constexpr int Comm::* group = &Ghosts::bordergroup;  ///< which atoms have ghosts
};

std::string written(double value) {
  std::ostringstream text;
  text.precision(4);
  text << value;
  return text.str();
}

/// What Neighbor shows to its own kind alone.
struct Lists : Neighbor {
  static constexpr int Neighbor::* made = &Lists::npair_perpetual;  ///< when neighbors are found
};

/// Whether it is made for pair styles, or made where it is used from nothing but atoms.
bool serves_pairs_alone(const NeighList& list) {
  if (list.requestor_type == NeighList::PAIR) return true;
  return list.occasional && !list.listcopy && !list.listskip && !list.listfull;
}

}  // namespace

bool FixSplitting::is_meant(int narg, char** arg) {
  return narg > 4 && std::strcmp(arg[3], "dynamics") == 0 && mlmod::holds_splitting(arg[4]);
}

FixSplitting::FixSplitting(LAMMPS* lmp, int narg, char** arg) : Fix(lmp, narg, arg), local_(lmp) {
  mlmod::raise_together(lmp, name(), mlmod::caught([&] {
                          if (domain->dimension != 3) throw std::runtime_error("needs dimension 3");
                          if (!atom->tag_enable)
                            throw std::runtime_error("needs atom ids (atom_modify id yes)");
                          const auto words = mlmod::parse_bundle_words({arg + 3, arg + narg});
                          model_.emplace(words, update->unit_style);
                          verbose_ = words.verbose;
                          always_ = words.forces == "always";
                        }));
  time_integrate = 1;
  restart_global = 1;
  force_reneighbor = 1;
  next_reneighbor = -1;
  vector_flag = 1;
  size_vector = 3;
  global_freq = nevery = 1;
  extvector = 0;
  none_ = std::make_unique<NoPair>(lmp);
  if (verbose_ > 0 && comm->me == 0)
    utils::logmesg(lmp, "{}: dynamics from {}, a splitting of {} kicks up to {}, steps of {}\n",
                   name(), model_->name(), model_->step(0).kicks(), model_->bundle().cutoff,
                   model_->bundle().timestep);
}

// Plugins go before the other parts of LAMMPS.
FixSplitting::~FixSplitting() {
  if (pair_) force->pair = pair_;
  wake_lists();
}

int FixSplitting::setmask() {
  using namespace FixConst;
  const int asleep = always_ ? 0 : PRE_NEIGHBOR | PRE_FORCE | PRE_REVERSE;
  return INITIAL_INTEGRATE | POST_NEIGHBOR | asleep;
}

std::string FixSplitting::name() const { return std::string("fix ") + style + " " + id; }

void FixSplitting::warn(const std::string& text) const {
  if (comm->me == 0 && verbose_ > 0) error->warning(FLERR, name() + ": " + text);
}

// ------------------------------------------------------------------------------------ checks

void FixSplitting::init() {
  wake_lists();
  if (update->whichflag != 1) return;
  if (!utils::strmatch(update->integrate_style, "^verlet"))
    error->all(FLERR, name() + ": needs run_style verlet, found " + update->integrate_style);
  need_all_atoms();
  need_ghosts();
  mlmod::raise_together(lmp, name(), mlmod::caught([&] {
                          model_->check_timestep(update->dt);
                          check_atoms();
                        }));
  warn_of_forces();
}

void FixSplitting::need_all_atoms() const {
  const bigint there = group->count(igroup);
  if (group->dynamic[igroup] || there != atom->natoms)
    error->all(FLERR, name() + ": a splitting moves all atoms, group " + group->names[igroup] +
                          " has " + std::to_string(there) + " of " + std::to_string(atom->natoms));
}

/// Asks for ghosts as far as the model looks, where the pair style does not ask for them.
void FixSplitting::need_ghosts() const {
  if (comm->mode != Comm::SINGLE)
    error->all(FLERR, name() + ": a model with a cutoff needs comm_modify mode single");
  if (comm->*Ghosts::group != 0)
    error->all(FLERR, name() + ": a splitting needs ghosts of all atoms, comm_modify group " +
                          group->names[comm->*Ghosts::group] + " leaves some out");
  const double reach = model_->bundle().cutoff + neighbor->skin;
  for (int k = 0; k < 3; ++k)
    if (domain->periodicity[k] && reach > kMostImages * domain->prd[k])
      error->all(FLERR, name() + ": the model's cutoff plus the skin is " + written(reach) +
                            ", more than " + std::to_string(kMostImages) +
                            " times the box, whose side is " + written(domain->prd[k]));
  const double pair = force->pair ? force->pair->cutforce : 0.0;
  if (reach > pair + neighbor->skin) comm->cutghostuser = std::max(comm->cutghostuser, reach);
}

void FixSplitting::check_atoms() const {
  for (int i = 0; i < atom->nlocal; ++i) {
    const int type = atom->type[i];
    model_->check_atom(atom->tag[i], type, atom->rmass ? atom->rmass[i] : atom->mass[type]);
  }
}

void FixSplitting::warn_of_forces() {
  if (std::exchange(warned_, true)) return;
  for (const mlmod::ForceFix& other : mlmod::Simulation(lmp).force_fixes(this))
    warn("the forces of fix " + other.id + " (" + other.style +
         ") move no atoms: steps of a splitting are made by its kicks alone");
}

// -------------------------------------------------------------------------------------- steps

void FixSplitting::setup_post_neighbor() {
  lists_sleep_ = false;
  post_neighbor();
}

void FixSplitting::post_neighbor() {
  wake_lists();
  const auto find = [&] { local_.reneighbor(groupbit, model_->bundle().cutoff); };
  mlmod::raise_together(lmp, name(), mlmod::caught(find));
  const double* x = atom->nlocal > 0 ? atom->x[0] : nullptr;
  built_.assign(x, x + 3 * static_cast<std::ptrdiff_t>(atom->nlocal));
  fresh_ = true;
}

void FixSplitting::initial_integrate(int) {
  if (std::string wrong = mlmod::caught([&] { model_->check_timestep(update->dt); });
      !wrong.empty())
    error->all(FLERR, name() + ": " + wrong);  // the same on every rank
  closest_ = std::numeric_limits<double>::infinity();
  if (domain->box_change) find_neighbors_within_step();
  advance(0);
  if (lists_sleep_ && !pair_sleeps()) next_reneighbor = update->ntimestep;
}

/// One step of model.timestep / 2^halving, in shorter ones where it is not good.
void FixSplitting::advance(int halving) {
  const Outcome made = attempt(halving);
  const double allowed = 0.5 * neighbor->skin;
  const bool close = made.closest < model_->step(halving).closest();
  if (made.sound && !close && made.reach <= allowed) {
    closest_ = std::min(closest_, made.closest);
    fresh_ = false;
    surprise_ = std::max(kForgetting * surprise_, made.surprise);
    if (made.ahead + surprise_ > allowed) next_reneighbor = update->ntimestep;
    return;
  }
  undo();
  if (made.reach > allowed && !fresh_) {
    find_neighbors_within_step();
    ++found_within_;
    return advance(halving);
  }
  redo(halving, made);
}

void FixSplitting::redo(int halving, const Outcome& made) {
  const mlcore::PairSplitting& step = model_->step(halving);
  if (made.sound && made.closest >= step.closest())
    error->all(FLERR, name() + ": atoms move by " + written(made.reach) + " within a step of " +
                          written(step.step()) +
                          ", more than half the skin of the neighbor "
                          "lists, which is " +
                          written(neighbor->skin) + ": neighbor " +
                          written(2 * kRoom * made.reach) + " bin");
  if (halving == model_->halvings()) {
    mlmod::raise_together(lmp, name(), made.problem);
    error->all(FLERR, name() + ": atoms come as close as " + written(made.closest) + " at step " +
                          std::to_string(update->ntimestep) + ", " + model_->name() +
                          " knows no pairs closer than " + written(step.closest()) +
                          ", even in steps of " + written(step.step()));
  }
  if (halving == 0) ++done_shorter_;
  advance(halving + 1);
  advance(halving + 1);
}

FixSplitting::Outcome FixSplitting::attempt(int halving) {
  const mlcore::PairSplitting& step = model_->step(halving);
  const std::vector<double>& parts = model_->drifts();
  Outcome made;
  double closest = std::numeric_limits<double>::infinity(), reach = 0;
  keep();
  const double freely = moved(step.step());
  for (int k = 0; k < step.kicks(); ++k) {
    drift(parts[k] * step.step());
    reach = std::max(reach, moved(0));
    comm->forward_comm();
    if (made.problem.empty())
      made.problem = mlmod::caught([&] { closest = std::min(closest, kick(step, k)); });
  }
  drift(parts.back() * step.step());
  const double ahead = moved(model_->bundle().timestep);
  const bool sound = made.problem.empty() && std::isfinite(ahead);
  double worst[5] = {-closest, reach, ahead, sound ? reach - freely : 0, sound ? 0. : 1.};
  MPI_Allreduce(MPI_IN_PLACE, worst, 5, MPI_DOUBLE, MPI_MAX, world);
  made.closest = -worst[0];
  made.reach = worst[1];
  made.ahead = worst[2];
  made.surprise = worst[3];
  made.sound = worst[4] == 0;
  return made;
}

void FixSplitting::keep() {
  if (atom->nlocal == 0) return;
  const std::ptrdiff_t size = 3 * static_cast<std::ptrdiff_t>(atom->nlocal);
  x_.assign(atom->x[0], atom->x[0] + size);
  v_.assign(atom->v[0], atom->v[0] + size);
}

void FixSplitting::undo() {
  if (atom->nlocal == 0) return;
  std::copy(x_.begin(), x_.end(), atom->x[0]);
  std::copy(v_.begin(), v_.end(), atom->v[0]);
}

void FixSplitting::drift(double time) {
  if (atom->nlocal == 0) return;
  double* const x = atom->x[0];
  const double* const v = atom->v[0];
  const std::ptrdiff_t size = 3 * static_cast<std::ptrdiff_t>(atom->nlocal);
  for (std::ptrdiff_t k = 0; k < size; ++k) x[k] += time * v[k];
}

// Ghosts are images already, and follow the owned atoms.
double FixSplitting::kick(const mlcore::PairSplitting& step, int stage) {
  const std::int64_t owned = atom->nlocal, all = owned + atom->nghost;
  if (owned == 0) return std::numeric_limits<double>::infinity();
  const mlmod::LocalAtoms& list = local_.atoms();
  mlcore::PairRows rows;
  rows.x = {atom->x[0], {all, 3}};
  rows.types = {atom->type, {all}};
  rows.first_type = 1;
  rows.offsets = {list.first.data(), {owned + 1}};
  rows.columns = {list.neighbors.data(), {static_cast<std::int64_t>(list.neighbors.size())}};
  return step.kick(kOneThread, stage, rows, {atom->v[0], {owned, 3}});
}

/// Of owned atoms, after so much time without a push: farthest from where the list was made.
double FixSplitting::moved(double ahead) const {
  double most = 0;
  bool sound = true;
  for (int i = 0; i < atom->nlocal; ++i) {
    double square = 0;
    for (int k = 0; k < 3; ++k) {
      const double d =
          atom->x[i][k] + ahead * atom->v[i][k] - built_[3 * static_cast<std::size_t>(i) + k];
      square += d * d;
    }
    sound &= std::isfinite(square);
    most = std::max(most, square);
  }
  return sound ? std::sqrt(most) : std::numeric_limits<double>::infinity();
}

/// What LAMMPS does where neighbors are found anew, at another moment.
void FixSplitting::find_neighbors_within_step() {
  modify->pre_exchange();
  if (domain->triclinic) domain->x2lamda(atom->nlocal);
  domain->pbc();
  if (domain->box_change) {
    domain->reset_box();
    comm->setup();
    if (neighbor->style) neighbor->setup_bins();
  }
  comm->exchange();
  comm->borders();
  if (domain->triclinic) domain->lamda2x(atom->nlocal + atom->nghost);
  modify->pre_neighbor();
  neighbor->build(1);
  modify->post_neighbor();
}

// ------------------------------------------------------------------------------------- forces

bool FixSplitting::forces_are_wanted() const {
  const bigint now = update->ntimestep;
  for (const bigint step : {update->eflag_global, update->eflag_atom, update->vflag_global,
                            update->vflag_atom, output->next, update->laststep})
    if (step == now) return true;
  return false;
}

// Between pre_force() and pre_reverse() LAMMPS does nothing but compute the forces of pairs: with
// bonds or long-range forces it would do more, which may look at the pair style.
bool FixSplitting::pair_sleeps() const {
  const bool alone = atom->molecular == Atom::ATOMIC && !force->kspace;
  return alone && force->pair && !forces_are_wanted();
}

void FixSplitting::pre_force(int) {
  if (pair_sleeps()) pair_ = std::exchange(force->pair, none_.get());
}

void FixSplitting::pre_reverse(int, int) {
  if (pair_) force->pair = std::exchange(pair_, nullptr);
}

// A pair style that sleeps needs no lists; when it wakes, they are made.
void FixSplitting::pre_neighbor() {
  lists_sleep_ = pair_sleeps();
  for (int i = 0; i < neighbor->nlist; ++i)
    lists_sleep_ = lists_sleep_ && serves_pairs_alone(*neighbor->lists[i]);
  if (lists_sleep_) lists_ = std::exchange(neighbor->*Lists::made, 0);
}

void FixSplitting::wake_lists() {
  if (lists_ > 0) neighbor->*Lists::made = std::exchange(lists_, 0);
}

// ------------------------------------------------------------------------------------- output

double FixSplitting::compute_vector(int index) {
  if (index == 1) return std::min(closest_, model_->bundle().cutoff);
  return index == 0 ? done_shorter_ : found_within_;
}

// As FixModel does: kind, a mark that it alone has, and the numbers.
void FixSplitting::write_restart(FILE* file) {
  if (comm->me != 0) return;
  std::vector<double> numbers{kRestart, static_cast<double>(kKind.size())};
  numbers.insert(numbers.end(), kKind.begin(), kKind.end());
  for (const double value : {0.0, 3.0, done_shorter_, found_within_, surprise_})
    numbers.push_back(value);
  const int size = static_cast<int>(numbers.size() * sizeof(double));
  std::fwrite(&size, sizeof size, 1, file);
  std::fwrite(numbers.data(), sizeof(double), numbers.size(), file);
}

void FixSplitting::restart(char* buffer) {
  std::vector<double> numbers(2 + kKind.size() + 5);
  const auto take = [&](std::size_t from, std::size_t count) {
    std::memcpy(numbers.data() + from, buffer + from * sizeof(double), count * sizeof(double));
  };
  take(0, 2);
  bool own = numbers[0] == kRestart && numbers[1] == static_cast<double>(kKind.size());
  if (own) take(2, kKind.size());
  own = own && std::equal(kKind.begin(), kKind.end(), numbers.begin() + 2);
  if (!own)
    return warn(
        "the restart file holds the state of another mode for a fix of this ID; it is "
        "not used");
  take(2 + kKind.size(), 5);
  const double* state = numbers.data() + 4 + kKind.size();
  done_shorter_ = state[0];
  found_within_ = state[1];
  surprise_ = state[2];
}

double FixSplitting::memory_usage() {
  return static_cast<double>(built_.size() + x_.size() + v_.size()) * sizeof(double);
}

}  // namespace LAMMPS_NS
