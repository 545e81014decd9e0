#include "fix_model.h"

#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

#include "all_ranks.h"
#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "group.h"
#include "input.h"
#include "memory.h"
#include "modify.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"
#include "utils.h"
#include "variable.h"

namespace LAMMPS_NS {

namespace {

constexpr int kMostImages = 20;  // that ghosts may be away
constexpr double kRestart = -1;  // starts what this fix writes to restart files

/// What Comm shows to its own kind alone.
struct Ghosts : Comm {
  static constexpr int Comm::* group = &Ghosts::bordergroup;     ///< which atoms have ghosts
  static constexpr int Comm::* most_back = &Ghosts::maxreverse;  ///< numbers a ghost sends home
};

}  // namespace

FixModel::FixModel(LAMMPS* lmp, int narg, char** arg, MakeMode make)
    : Fix(lmp, narg, arg), gather_(lmp), local_(lmp), simulation_(lmp), boundary_(lmp) {
  if (std::string(style) == "mlcore" && narg > 3) mode_name_ = arg[3];
  dynamic_group_allow = 1;
  evflag = vflag_global = 0;
  together([&] {
    if (!atom->tag_enable)
      throw std::runtime_error(
          "needs atom ids (atom_modify id yes): noise and order depend on them");
    if (domain->dimension != 3) throw std::runtime_error("needs dimension 3");
    mode_ = make({arg + 3, arg + narg}, surroundings());
    needs_ = mode_->needs();
  });
  set_flags();
  start_kept();
  act(mlmod::kCreation);
  show_output();
}

FixModel::~FixModel() {
  if (copymode) return;
  memory->destroy(shown_);
  memory->destroy(shown_column_);
  memory->destroy(stored_);
  if (kept() + output_.per_atom == 0) return;
  atom->delete_callback(id, Atom::GROW);
  if (restart_peratom) atom->delete_callback(id, Atom::RESTART);
}

/// Runs `body` on every rank; what any of them throws stops all of them with that message.
template <class Body>
void FixModel::together(Body&& body) {
  mlmod::raise_together(lmp, name(), mlmod::caught(body));
}

bool FixModel::in_run() const { return update->whichflag == 1; }

std::string FixModel::name() const { return std::string("fix ") + style + " " + id; }

void FixModel::warn(const std::string& text) const {
  if (comm->me == 0) error->warning(FLERR, name() + ": " + text);
}

mlmod::Surroundings FixModel::surroundings() {
  return {
      .fix_id = id,
      .units = update->unit_style,
      .cell = gather_.cell(),
      .origin = {domain->boxlo[0], domain->boxlo[1], domain->boxlo[2]},
      .boltzmann = force->boltz,
      .types = atom->ntypes,
      .all_atoms = igroup == 0,
      .rank = comm->me,
      .ranks = comm->nprocs,
      .warn = [this](const std::string& text) { warn(text); },
      .log =
          [this](const std::string& text) {
            if (comm->me == 0) utils::logmesg(lmp, text);
          },
      .variable = [this](const std::string& name) { return variable_now(name); },
      .fix = [this](const std::string& other,
                    bool values) { return simulation_.shown_by(other, values); },
      .force_fixes = [this] { return simulation_.force_fixes(this); },
      .potential_energy = [this](std::int64_t next) { return simulation_.potential_energy(next); }};
}

double FixModel::variable_now(const std::string& name) const {
  const int index = input->variable->find(name.c_str());
  if (index < 0) throw std::runtime_error("there is no variable '" + name + "'");
  if (!input->variable->equalstyle(index))
    throw std::runtime_error("variable '" + name + "' is not of style equal");
  return input->variable->compute_equal(index);
}

void FixModel::set_flags() {
  time_integrate = needs_.integrates;
  nevery = 1;
  scalar_flag = extscalar = energy_global_flag = needs_.energy;
  virial_global_flag = needs_.virial || needs_.external;
  energy_peratom_flag = needs_.atom_energy;
  virial_peratom_flag = needs_.atom_virial || needs_.external;
  restart_global = needs_.saves;
  if (sees_ghosts()) {
    comm_reverse = std::max(needs_.forces ? 3 : 0, needs_.partial);
    if (needs_.atom_virial && !needs_.complete) comm_reverse = std::max(comm_reverse, 6);
    comm_forward = needs_.v || needs_.f ? 6 : 0;
  }
}

/// Tells LAMMPS what can be read; shapes may have become known.
void FixModel::show_output() {
  output_ = mode_->output();
  global_freq = peratom_freq = static_cast<int>(output_.every);
  if (output_.scalar) scalar_flag = 1;
  vector_flag = output_.vector > 0;
  size_vector = output_.vector;
  extvector = 0;
  array_flag = output_.array;
  size_array_rows = output_.rows;
  size_array_cols = output_.columns;
  size_array_rows_variable = output_.array && output_.rows == 0;
  extarray = 0;
  peratom_flag = output_.per_atom > 0;
  size_peratom_cols = output_.per_atom > 1 ? output_.per_atom : 0;
}

/// Numbers of each atom that stay with it, wherever it is sorted or sent.
void FixModel::start_kept() {
  output_ = mode_->output();
  maxexchange = kept() + output_.per_atom;
  if (maxexchange == 0) return;
  create_attribute = 1;
  grow_arrays(atom->nmax);
  for (int i = 0; i < atom->nlocal; ++i) set_arrays(i);
  atom->add_callback(Atom::GROW);
  restart_peratom = needs_.stored > 0;
  if (restart_peratom) atom->add_callback(Atom::RESTART);
}

int FixModel::setmask() {
  using namespace FixConst;
  int mask = 0;
  if (needs_.hooks & mlmod::kInitialIntegrate) mask |= INITIAL_INTEGRATE;
  if (needs_.hooks & mlmod::kPostForce) mask |= POST_FORCE;
  if (needs_.hooks & mlmod::kPostForce && needs_.forces) mask |= MIN_POST_FORCE;
  if (needs_.hooks & mlmod::kFinalIntegrate) mask |= FINAL_INTEGRATE;
  if (needs_.hooks & mlmod::kEndOfStep) mask |= END_OF_STEP;
  if (sees_ghosts()) mask |= POST_NEIGHBOR | MIN_POST_NEIGHBOR;
  if (comm_reverse > 0) mask |= PRE_EXCHANGE | MIN_PRE_EXCHANGE;
  return mask;
}

void FixModel::init() {
  need_atoms_as_they_are();
  if (update->whichflag == 2 && needs_.forces) need_an_energy_to_minimize();
  if (update->whichflag == 1 && needs_.last_forces) forget_what_changed();
  if (update->whichflag > 0) warn_of_later_forces();
  if (!sees_ghosts()) return;
  need_what_ghosts_need();
  reach_ghosts();
}

void FixModel::need_what_ghosts_need() const {
  if (group->dynamic[igroup])
    error->all(FLERR, name() +
                          ": a model with a cutoff needs a group that does not change, found "
                          "dynamic group " +
                          group->names[igroup]);
  if (comm->mode != Comm::SINGLE)
    error->all(FLERR, name() + ": a model with a cutoff needs comm_modify mode single");
  need_ghosts_of_the_group();
  const double reach = needs_.cutoff + neighbor->skin;
  for (int k = 0; k < 3; ++k)
    if (domain->periodicity[k] && reach > kMostImages * domain->prd[k])
      error->all(FLERR, name() + ": the model's cutoff plus the skin is " + std::to_string(reach) +
                            ", more than " + std::to_string(kMostImages) +
                            " times the box, whose side is " + std::to_string(domain->prd[k]));
}

void FixModel::need_ghosts_of_the_group() const {
  const int seen = comm->*Ghosts::group, bit = group->bitmask[seen];
  int missing = 0;
  for (int i = 0; i < atom->nlocal; ++i)
    missing |= (atom->mask[i] & groupbit) && !(atom->mask[i] & bit);
  MPI_Allreduce(MPI_IN_PLACE, &missing, 1, MPI_INT, MPI_MAX, world);
  if (missing)
    error->all(FLERR, name() + ": a model with a cutoff needs ghosts of its whole group " +
                          group->names[igroup] + ", comm_modify group " + group->names[seen] +
                          " leaves some out");
}

void FixModel::need_atoms_as_they_are() const {
  if (update->whichflag != 1 || utils::strmatch(update->integrate_style, "^verlet")) return;
  error->all(FLERR, name() + ": needs run_style verlet, found " + update->integrate_style);
}

void FixModel::need_an_energy_to_minimize() const {
  const std::string found = update->minimize_style;
  if (utils::strmatch(found, "^fire") || utils::strmatch(found, "^quickmin")) return;
  if (!needs_.energy)
    error->all(FLERR, name() + ": the model gives forces and no energy, which min_style " + found +
                          " needs for its line search; use min_style fire or quickmin with an "
                          "energy tolerance of 0");
  if (!thermo_energy)
    error->all(FLERR, name() + ": min_style " + found + " needs the model's energy: fix_modify " +
                          id + " energy yes");
}

/// Asks for ghosts as far as the model looks, where the pair style does not ask for them.
void FixModel::reach_ghosts() const {
  const double pair = force->pair ? force->pair->cutforce : 0.0;
  if (needs_.cutoff <= pair) return;
  comm->cutghostuser = std::max(comm->cutghostuser, needs_.cutoff + neighbor->skin);
}

bool FixModel::sees_ghosts() const {
  return needs_.sight == mlmod::Sight::local && needs_.cutoff > 0;
}

// With newton off LAMMPS makes no room for what goes from ghosts to their owners.
void FixModel::setup_pre_exchange() {
  comm->*Ghosts::most_back = std::max(comm->*Ghosts::most_back, comm_reverse);
}

void FixModel::setup_post_neighbor() { post_neighbor(); }

void FixModel::min_post_neighbor() { post_neighbor(); }

void FixModel::post_neighbor() {
  if (!sees_ghosts()) return;
  together([&] { local_.reneighbor(groupbit, needs_.cutoff); });
}

void FixModel::setup(int vflag) {
  stepped_ = false;
  tell_cost();
  start_tally(vflag);
  act(mlmod::kSetup);
  if (!forces_come_later()) return show_output();
  unseen_forces_ = update->ntimestep;
  seen_forces_ = digest_of_forces();
  show_output();
}

void FixModel::min_setup(int vflag) { setup(vflag); }

/// Once: what gathering the whole group costs.
void FixModel::tell_cost() {
  if (std::exchange(told_cost_, true) || mode_->verbosity == 0) return;
  if (needs_.sight != mlmod::Sight::whole) return;
  const bigint atoms = group->count(igroup);
  const int columns = 4 + 3 * needs_.v + 3 * needs_.f + needs_.types + needs_.stored;
  if (comm->me == 0)
    utils::logmesg(
        lmp,
        "{} sees the whole group: {} atoms go to each of {} ranks each time, {} bytes per rank\n",
        name(), atoms, comm->nprocs, 8 * columns * atoms);
}

void FixModel::initial_integrate(int) {
  stepped_ = true;
  act(mlmod::kInitialIntegrate);
}

void FixModel::post_force(int vflag) {
  start_tally(vflag);
  act(mlmod::kPostForce);
}

void FixModel::min_post_force(int vflag) { post_force(vflag); }

void FixModel::final_integrate() { act(mlmod::kFinalIntegrate); }

void FixModel::end_of_step() { act(mlmod::kEndOfStep); }

// A rerun takes no step: what it leaves is seen as a change.
void FixModel::post_run() {
  if (!needs_.last_forces) return;
  if (update->whichflag != 1) return forget();
  if (stepped_) note_boundary();
}

void FixModel::note_boundary() {
  force_field_ = boundary_.force_field(this);
  force_fixes_ = force_fixes();
  for (int i = 0; i < atom->nlocal; ++i) boundary_.note(i, stored_[i] + needs_.stored);
}

/// Which fixes act on the forces; one that is made anew has another number.
std::vector<int> FixModel::force_fixes() const {
  using namespace FixConst;
  int Fix::* const number = &FixModel::instance_me;
  std::vector<int> found;
  for (Fix* other : modify->get_fix_list())
    if (other != this && modify->get_fix_mask(other) & (PRE_FORCE | PRE_REVERSE | POST_FORCE))
      found.push_back(other->*number);
  return found;
}

void FixModel::forget() {
  for (int i = 0; i < atom->nlocal; ++i) std::fill_n(stored_[i], needs_.stored, -1.0);
  force_field_ = 0;
}

// Commands between runs may move atoms or change the force field: what is stored is of before.
void FixModel::forget_what_changed() {
  if (force_field_ == 0 && !renew_) return;
  int changed = renew_ || boundary_.force_field(this) != force_field_ ||
                (!force_fixes_.empty() && force_fixes() != force_fixes_);
  for (int i = 0; i < atom->nlocal && !changed; ++i)
    changed = !boundary_.unchanged(i, stored_[i] + needs_.stored);
  MPI_Allreduce(MPI_IN_PLACE, &changed, 1, MPI_INT, MPI_MAX, world);
  renew_ = false;
  if (!changed) return;
  forget();
  if (comm->me == 0)
    utils::logmesg(lmp, name() +
                            ": atoms or forces were changed since the last run, so this one starts "
                            "with the forces of its setup\n");
}

/// Whether fixes made after this one change forces that the model has seen at setup.
bool FixModel::forces_come_later() const {
  const bool shows = needs_.f && needs_.hooks & mlmod::kSetup && mode_->kind().empty();
  if (!shows || needs_.forces || needs_.integrates) return false;
  for (const mlmod::ForceFix& other : simulation_.force_fixes(this))
    if (other.later) return true;
  return false;
}

// Values of the whole group are computed again when they are read; those of atoms are read by
// nobody's leave.
void FixModel::warn_of_later_forces() {
  if (output_.per_atom == 0 || warned_of_forces_ || !forces_come_later()) return;
  warned_of_forces_ = true;
  for (const mlmod::ForceFix& other : simulation_.force_fixes(this))
    if (other.later)
      return warn("its values per atom at the start of a run lack the forces of fix " + other.id +
                  " (" + other.style + "), which was made after it: make fix " + id +
                  " after fix " + other.id);
}

void FixModel::look_again() {
  if (unseen_forces_ != update->ntimestep) return;
  const std::size_t digest = digest_of_forces();
  int changed = digest != seen_forces_;
  MPI_Allreduce(MPI_IN_PLACE, &changed, 1, MPI_INT, MPI_MAX, world);
  if (!changed) return;
  act(mlmod::kSetup);
  unseen_forces_ = update->ntimestep;
  seen_forces_ = digest;
}

std::size_t FixModel::digest_of_forces() const {
  if (atom->nlocal == 0) return 0;
  const std::size_t size = 3 * sizeof(double) * static_cast<std::size_t>(atom->nlocal);
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(atom->f[0]), size});
}

void FixModel::start_tally(int vflag) {
  ev_init(update->eflag_atom == update->ntimestep ? ENERGY_ATOM : ENERGY_NONE, vflag);
  std::fill_n(virial, 6, 0.0);
}

mlmod::Moment FixModel::moment(mlmod::Hook hook) const {
  const auto since = static_cast<double>(update->ntimestep - update->atimestep);
  return {.hook = hook,
          .step = update->ntimestep,
          .dt = update->dt,
          .time = update->atime + since * update->dt,
          .minimizing = update->whichflag == 2,
          .virial = evflag && vflag_global,
          .atom_energy = evflag && eflag_atom,
          .atom_virial = evflag && vflag_atom};
}

void FixModel::act(mlmod::Hook hook) {
  if (!(needs_.hooks & hook)) return;
  const mlmod::Moment now = moment(hook);
  if (!mode_->acts(now)) return;
  change_.clear();
  unseen_forces_ = -1;
  // other fixes may have moved atoms since their ghosts were told
  const bool moved = hook == mlmod::kFinalIntegrate || hook == mlmod::kEndOfStep;
  if (sees_ghosts() && moved) comm->forward_comm();
  look();
  together([&] {
    if (needs_.sight == mlmod::Sight::whole)
      mode_->on_whole(now, gather_.configuration(), change_);
    else
      mode_->on_local(now, local_.atoms(), change_);
  });
  if (needs_.partial > 0) complete(now);
  reduce();
  apply();
}

/// Lets the mode go on with what its members gave to ghosts and got from other ranks.
void FixModel::complete(const mlmod::Moment& now) {
  bring_home(change_.partial, needs_.partial);
  const auto width = static_cast<std::size_t>(needs_.partial);
  std::vector<double> whole(width * owned().size());
  for (const auto& [i, row] : owned())
    std::copy_n(pushed_.data() + width * i, width, whole.data() + width * row);
  together([&] { mode_->on_complete(now, whole, change_); });
}

/// Leaves in pushed_ of the owned atoms the sum of `values` (members, width) over their images.
void FixModel::bring_home(const std::vector<double>& values, int columns) {
  pushed_width_ = columns;
  const auto width = static_cast<std::size_t>(columns);
  pushed_.assign(width * (atom->nlocal + atom->nghost), 0.0);
  const std::vector<int>& members = local_.members();
  for (std::size_t m = 0; width * m < values.size(); ++m)
    std::copy_n(values.data() + width * m, width, pushed_.data() + width * members[m]);
  comm->reverse_comm(this, columns);
}

void FixModel::look() {
  if (needs_.sight == mlmod::Sight::whole) {
    std::vector<mlmod::AtomColumns> beside;
    together([&] { beside = simulation_.columns_of(needs_.beside); });
    together([&] { gather_.collect(groupbit, needs_, stored_, beside); });
    return;
  }
  if (sees_ghosts() && (needs_.v || needs_.f)) send_to_ghosts();
  local_.collect(groupbit, needs_, stored_, received_);
}

// Ghosts are passed on from ghosts, so what is packed is what was received.
void FixModel::send_to_ghosts() {
  received_.resize(6 * static_cast<std::size_t>(atom->nlocal + atom->nghost));
  for (std::size_t i = 0; i < static_cast<std::size_t>(atom->nlocal); ++i) {
    std::copy_n(atom->v[i], 3, received_.data() + 6 * i);
    std::copy_n(atom->f[i], 3, received_.data() + 6 * i + 3);
  }
  comm->forward_comm(this);
}

void FixModel::reduce() {
  const bool parts = needs_.sight == mlmod::Sight::local || needs_.shared;
  if (!parts) {
    mode_->reduced(change_.sums, change_.maxima);
    return;
  }
  const auto over_ranks = [&](std::vector<double>& values, MPI_Op operation) {
    if (!values.empty())
      MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE,
                    operation, world);
  };
  over_ranks(change_.sums, MPI_SUM);
  over_ranks(change_.maxima, MPI_MAX);
  if (needs_.shared) over_ranks(change_.f, MPI_SUM);
  mode_->reduced(change_.sums, change_.maxima);
}

const std::vector<mlmod::OwnedRow>& FixModel::owned() const {
  return needs_.sight == mlmod::Sight::whole ? gather_.owned() : local_.owned();
}

void FixModel::apply() {
  for (const auto& [i, row] : owned()) {
    for (int k = 0; k < 3; ++k) {
      if (!change_.v.empty()) atom->v[i][k] = change_.v[3 * row + k];
      if (!change_.dx.empty()) atom->x[i][k] += change_.dx[3 * row + k];
    }
    if (!change_.stored.empty())
      std::copy_n(change_.stored.data() + needs_.stored * row, needs_.stored, stored_[i]);
  }
  if (needs_.forces) add_forces();
  if (owned().empty() || !change_.per_atom.empty()) show_per_atom();
  const bool once = needs_.sight == mlmod::Sight::whole && !needs_.shared;
  const bool mine = !once || comm->me == 0;
  if (needs_.energy) energy_ = mine ? change_.energy : 0.0;
  if (!evflag) return;
  if (needs_.virial && vflag_global)
    for (int k = 0; k < 6; ++k) virial[k] = mine ? change_.virial[k] : 0.0;
  if (needs_.external && vflag_either) tally();
  tally_atoms();
}

/// Virial of the model's forces as fixes with external forces have it.
void FixModel::tally() {
  if (change_.f.empty()) return;
  if (needs_.sight == mlmod::Sight::whole) warn_of_extent();
  for (const auto& [i, row] : owned()) {
    const double* f = change_.f.data() + 3 * row;
    double x[3];
    domain->unmap(atom->x[i], atom->image[i], x);
    double v[6] = {x[0] * f[0], x[1] * f[1], x[2] * f[2], x[1] * f[0], x[2] * f[0], x[2] * f[1]};
    v_tally(i, v);
  }
}

// A pair that the model takes for nearest images is that in unwrapped positions only while the
// group stays within half the box.
void FixModel::warn_of_extent() {
  if (warned_of_extent_) return;
  double ends[6] = {-1e300, -1e300, -1e300, -1e300, -1e300, -1e300};
  for (const auto& [i, row] : owned()) {
    double x[3];
    domain->unmap(atom->x[i], atom->image[i], x);
    for (int k = 0; k < 3; ++k) {
      ends[k] = std::max(ends[k], x[k]);
      ends[3 + k] = std::max(ends[3 + k], -x[k]);
    }
  }
  MPI_Allreduce(MPI_IN_PLACE, ends, 6, MPI_DOUBLE, MPI_MAX, world);
  for (int k = 0; k < 3; ++k)
    warned_of_extent_ |= domain->periodicity[k] && ends[k] + ends[3 + k] > 0.5 * domain->prd[k];
  if (warned_of_extent_)
    warn(
        "the virial is that of the forces on unwrapped positions, which holds for a group that "
        "stays together; this one is larger than half the periodic box");
}

/// Energies and virials of atoms, which LAMMPS has set to zero.
void FixModel::tally_atoms() {
  if (eflag_atom && !change_.energies.empty())
    for (const auto& [i, row] : owned()) eatom[i] = change_.energies[row];
  if (!vflag_atom || !needs_.atom_virial) return;
  const bool on_ghosts = sees_ghosts() && !needs_.complete;
  if (on_ghosts) bring_home(change_.virials, 6);
  if (!on_ghosts && change_.virials.empty()) return;
  for (const auto& [i, row] : owned())
    std::copy_n(on_ghosts ? pushed_.data() + 6 * static_cast<std::size_t>(i)
                          : change_.virials.data() + 6 * row,
                6, vatom[i]);
}

void FixModel::add_forces() {
  const bool on_ghosts = sees_ghosts() && !needs_.complete && needs_.partial == 0;
  if (on_ghosts) bring_home(change_.f, 3);
  if (!on_ghosts && change_.f.empty()) return;
  for (const auto& [i, row] : owned()) {
    const double* push =
        on_ghosts ? pushed_.data() + 3 * static_cast<std::size_t>(i) : change_.f.data() + 3 * row;
    for (int k = 0; k < 3; ++k) atom->f[i][k] += push[k];
  }
}

/// Per-atom output in the order of LAMMPS' atoms; zero outside the group.
void FixModel::show_per_atom() {
  const int columns = output_.per_atom;
  std::fill_n(shown_of(0), static_cast<std::size_t>(columns) * atom->nlocal, 0.0);
  for (const auto& [i, row] : owned())
    std::copy_n(change_.per_atom.data() + columns * row, columns, shown_of(i));
}

double FixModel::compute_scalar() {
  look_again();
  if (!needs_.energy) return mode_->scalar();
  double sum = 0;
  MPI_Allreduce(&energy_, &sum, 1, MPI_DOUBLE, MPI_SUM, world);
  return sum;
}

double FixModel::compute_vector(int index) {
  look_again();
  return mode_->vector(index);
}

double FixModel::compute_array(int row, int column) {
  look_again();
  return row < output_.rows && column < output_.columns ? mode_->array(row, column) : 0.0;
}

int FixModel::pack_forward_comm(int count, int* list, double* buffer, int, int*) {
  for (int m = 0; m < count; ++m)
    std::copy_n(received_.data() + 6 * static_cast<std::size_t>(list[m]), 6, buffer + 6 * m);
  return 6 * count;
}

void FixModel::unpack_forward_comm(int count, int first, double* buffer) {
  std::copy_n(buffer, 6 * static_cast<std::size_t>(count),
              received_.data() + 6 * static_cast<std::size_t>(first));
}

int FixModel::pack_reverse_comm(int count, int first, double* buffer) {
  const auto width = static_cast<std::size_t>(pushed_width_);
  std::copy_n(pushed_.data() + width * first, width * count, buffer);
  return pushed_width_ * count;
}

void FixModel::unpack_reverse_comm(int count, int* list, double* buffer) {
  const auto width = static_cast<std::size_t>(pushed_width_);
  for (int m = 0; m < count; ++m)
    for (std::size_t k = 0; k < width; ++k) pushed_[width * list[m] + k] += buffer[width * m + k];
}

int FixModel::modify_param(int narg, char** arg) {
  if (std::string(arg[0]) != "forces") return 0;
  if (!needs_.last_forces) error->all(FLERR, name() + ": keeps no forces from run to run");
  if (narg < 2 || std::string(arg[1]) != "renew")
    error->all(FLERR, name() + ": fix_modify forces needs the word renew");
  forget();
  renew_ = true;
  return 2;
}

// What is kept for each atom, as it is at this moment within a run.
std::vector<double> FixModel::kept_of(int local) const {
  std::vector<double> values(stored_[local], stored_[local] + kept());
  if (in_run() && needs_.last_forces) boundary_.note(local, values.data() + needs_.stored);
  return values;
}

// The kind of the mode, the mark of boundary_, and the mode's own numbers.
void FixModel::write_restart(FILE* file) {
  const std::vector<double> state = mode_->save();
  const std::string kind = mode_->kind();
  double mark = force_field_;
  if (in_run() && needs_.last_forces) mark = boundary_.force_field(this);
  if (comm->me != 0) return;
  std::vector<double> numbers{kRestart, static_cast<double>(kind.size())};
  numbers.insert(numbers.end(), kind.begin(), kind.end());
  numbers.push_back(mark);
  numbers.push_back(static_cast<double>(state.size()));
  numbers.insert(numbers.end(), state.begin(), state.end());
  const int size = static_cast<int>(numbers.size() * sizeof(double));
  std::fwrite(&size, sizeof size, 1, file);
  std::fwrite(numbers.data(), sizeof(double), numbers.size(), file);
}

void FixModel::restart(char* buffer) {
  const auto take = [&buffer] {
    double value = 0;
    std::memcpy(&value, buffer, sizeof value);
    buffer += sizeof value;
    return value;
  };
  foreign_ = take() != kRestart;
  std::string kind = foreign_ ? "an older mlcore" : "";
  if (!foreign_) {
    for (auto letters = static_cast<int>(take()); letters > 0; --letters)
      kind += static_cast<char>(take());
    foreign_ = kind != mode_->kind();
    kind = "mode " + kind;
  }
  if (foreign_)
    return warn("the restart file holds the state of " + kind +
                " for a fix of this ID; it is not used");
  force_field_ = take();
  std::vector<double> state(static_cast<std::size_t>(take()));
  for (double& value : state) value = take();
  together([&] { mode_->restore(state); });
}

void FixModel::grow_arrays(int count) {
  if (kept() > 0) memory->grow(stored_, count, kept(), "mlcore:stored");
  if (output_.per_atom == 1) memory->grow(shown_column_, count, "mlcore:shown");
  if (output_.per_atom > 1) memory->grow(shown_, count, output_.per_atom, "mlcore:shown");
  vector_atom = shown_column_;
  array_atom = shown_;
}

void FixModel::copy_arrays(int from, int to, int) {
  if (stored_) std::copy_n(stored_[from], kept(), stored_[to]);
  std::copy_n(shown_of(from), output_.per_atom, shown_of(to));
}

double* FixModel::shown_of(int local) const {
  if (output_.per_atom == 0) return nullptr;
  return shown_ ? shown_[local] : shown_column_ + local;
}

// -1 is no step: what is kept with a new atom belongs to none.
void FixModel::set_arrays(int local) {
  if (stored_) std::fill_n(stored_[local], kept(), -1.0);
  std::fill_n(shown_of(local), output_.per_atom, 0.0);
}

int FixModel::pack_exchange(int local, double* buffer) {
  if (stored_) buffer = std::copy_n(stored_[local], kept(), buffer);
  std::copy_n(shown_of(local), output_.per_atom, buffer);
  return kept() + output_.per_atom;
}

int FixModel::unpack_exchange(int local, double* buffer) {
  if (stored_) std::copy_n(buffer, kept(), stored_[local]);
  std::copy_n(buffer + kept(), output_.per_atom, shown_of(local));
  return kept() + output_.per_atom;
}

int FixModel::pack_restart(int local, double* buffer) {
  const std::vector<double> values = kept_of(local);
  buffer[0] = size_restart(local);
  std::copy(values.begin(), values.end(), buffer + 1);
  return size_restart(local);
}

void FixModel::unpack_restart(int local, int place) {
  const double* extra = atom->extra[local];
  int begin = 0;
  for (int i = 0; i < place; ++i) begin += static_cast<int>(extra[begin]);
  if (foreign_ || extra[begin] != size_restart(local)) return set_arrays(local);
  std::copy_n(extra + begin + 1, kept(), stored_[local]);
}

int FixModel::size_restart(int) { return kept() + 1; }

int FixModel::maxsize_restart() { return kept() + 1; }

double FixModel::memory_usage() {
  return static_cast<double>(atom->nmax) * (kept() + output_.per_atom) * sizeof(double);
}

}  // namespace LAMMPS_NS
