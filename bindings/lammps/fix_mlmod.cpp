#include "fix_mlmod.h"

#include <mpi.h>

#include <climits>
#include <cstring>
#include <exception>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "exceptions.h"
#include "memory.h"
#include "modes/bundle_mobility.h"
#include "modes/pair_models.h"
#include "modes/whole_model.h"
#include "update.h"
#include "utils.h"

namespace LAMMPS_NS {

FixMlmod::FixMlmod(LAMMPS* lmp, int narg, char** arg)
    : Fix(lmp, narg, arg), gather_(lmp), last_(nullptr) {
  time_integrate = 1;
  dynamic_group_allow = 1;
  together([&] { create(narg, arg); });
  report();
  vector_flag = 1;
  size_vector = 2;
  global_freq = 1;
  extvector = 0;
  if (!two_stages()) return;
  restart_global = 1;
  restart_peratom = 1;
  maxexchange = kStored;
  grow_arrays(atom->nmax);
  for (int i = 0; i < atom->nlocal; ++i) set_arrays(i);
  atom->add_callback(Atom::GROW);
  atom->add_callback(Atom::RESTART);
}

FixMlmod::~FixMlmod() {
  if (copymode || !last_) return;
  atom->delete_callback(id, Atom::GROW);
  atom->delete_callback(id, Atom::RESTART);
  memory->destroy(last_);
}

/// Runs `body` on every rank; what any of them throws stops all of them with that message.
template <class Body>
void FixMlmod::together(Body&& body) {
  std::string problem;
  try {
    body();
  } catch (const LAMMPSException&) {
    throw;
  } catch (const std::exception& failure) {
    problem = failure.what();
    if (problem.empty()) problem = "unknown error";
  } catch (...) {
    problem = "unknown error";
  }
  raise_together(problem);
}

void FixMlmod::raise_together(const std::string& problem) {
  const int mine = problem.empty() ? INT_MAX : comm->me;
  int first = INT_MAX;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == INT_MAX) return;
  std::string text = std::string("fix mlmod ") + id + ": " + problem;
  int length = static_cast<int>(text.size());
  MPI_Bcast(&length, 1, MPI_INT, first, world);
  text.resize(static_cast<std::size_t>(length));
  MPI_Bcast(text.data(), length, MPI_CHAR, first, world);
  error->all(FLERR, text);
}

void FixMlmod::warn(const std::string& text) {
  if (comm->me == 0) error->warning(FLERR, std::string("fix mlmod ") + id + ": " + text);
}

void FixMlmod::create(int narg, char** arg) {
  words_ = mlmod::parse_words({arg + 3, arg + narg});
  if (!atom->tag_enable)
    throw std::runtime_error("needs atom ids (atom_modify id yes): noise and order depend on them");
  if (domain->dimension != 3) throw std::runtime_error("needs dimension 3");
  parameters_ = mlmod::read_parameters(words_.file);
  stepper_ = std::make_unique<mlmod::MobilityStepper>(
      parameters_, make_source(), mlmod::noise_key(words_.seed, id), words_.repair,
      [this](const std::string& text) { warn(text); });
}

std::unique_ptr<mlmod::MobilitySource> FixMlmod::make_source() {
  const auto warning = [this](const std::string& text) { warn(text); };
  if (!parameters_.bundle.empty())
    return std::make_unique<mlmod::BundleMobility>(parameters_.bundle, update->unit_style);
  if (parameters_.mode == mlmod::Mode::stochastic_whole)
    return std::make_unique<mlmod::WholeModel>(parameters_.m, warning);
  const mlcore::Cell cell = gather_.cell();
  if (!cell.is_open())
    warn(
        "TorchScript pair models see nearest images only; a long-ranged mobility is then not "
        "positive definite in general (a bundle with background rpy adds the periodic part)");
  return std::make_unique<mlmod::PairModels>(parameters_.m_ii, parameters_.m_ij, cell,
                                             std::vector<double>(domain->boxlo, domain->boxlo + 3),
                                             warning);
}

void FixMlmod::report() const {
  if (comm->me != 0 || words_.verbose == 0) return;
  std::string text = fmt::format("fix mlmod {}: {} from {}, seed {}, legacy {}, psd {}\n", id,
                                 parameters_.type, parameters_.file, words_.seed,
                                 words_.legacy ? "yes" : "no", words_.repair ? "repair" : "error");
  if (words_.verbose > 1)
    for (const auto& [tag, value] : parameters_.values)
      text += fmt::format("  {} = {}\n", tag, value);
  utils::logmesg(lmp, text);
}

int FixMlmod::setmask() {
  using namespace FixConst;
  return two_stages() ? INITIAL_INTEGRATE | FINAL_INTEGRATE : FINAL_INTEGRATE;
}

void FixMlmod::init() {
  if (!utils::strmatch(update->integrate_style, "^verlet"))
    error->all(FLERR, std::string("fix mlmod ") + id + ": needs run_style verlet, found " +
                          update->integrate_style);
}

const double* FixMlmod::last_force(int local) const {
  const bool known = last_[local][kStamp] == static_cast<double>(update->ntimestep - 1);
  return known && !words_.legacy ? last_[local] : atom->f[local];
}

void FixMlmod::initial_integrate(int) {
  std::vector<double> u;
  gather_.collect(groupbit, [this](int i) { return last_force(i); });
  together([&] { stepper_->predict(gather_.configuration(), update->ntimestep, update->dt, u); });
  for (const auto& own : gather_.own())
    for (int k = 0; k < 3; ++k) {
      atom->v[own.local][k] = u[3 * own.row + k];
      atom->x[own.local][k] += update->dt * u[3 * own.row + k];
    }
}

void FixMlmod::final_integrate() {
  gather_.collect(groupbit, [this](int i) { return atom->f[i]; });
  if (two_stages())
    correct();
  else
    euler();
}

void FixMlmod::euler() {
  std::vector<double> v;
  together([&] { stepper_->velocities(gather_.configuration(), v); });
  for (const auto& own : gather_.own())
    for (int k = 0; k < 3; ++k) {
      atom->v[own.local][k] = v[3 * own.row + k];
      atom->x[own.local][k] += update->dt * v[3 * own.row + k];
    }
}

// Adds to the present position, so that a box length added by wrapping since the first stage, with
// its image flag, stays where it is.
void FixMlmod::correct() {
  std::vector<double> change, v;
  together([&] { stepper_->correct(gather_.configuration(), words_.legacy, change, v); });
  for (const auto& own : gather_.own())
    for (int k = 0; k < 3; ++k) {
      atom->v[own.local][k] = v[3 * own.row + k];
      atom->x[own.local][k] += update->dt * change[3 * own.row + k];
    }
  store_forces();
}

void FixMlmod::store_forces() {
  for (const auto& own : gather_.own()) {
    std::memcpy(last_[own.local], atom->f[own.local], 3 * sizeof(double));
    last_[own.local][kStamp] = static_cast<double>(update->ntimestep);
  }
}

double FixMlmod::compute_vector(int index) {
  return index == 0 ? stepper_->last_shift() : static_cast<double>(stepper_->repaired_steps());
}

void FixMlmod::write_restart(FILE* file) {
  if (comm->me != 0) return;
  const double seed = static_cast<double>(words_.seed);
  const int size = sizeof seed;
  std::fwrite(&size, sizeof size, 1, file);
  std::fwrite(&seed, sizeof seed, 1, file);
}

void FixMlmod::restart(char* buffer) {
  double seed = 0;
  std::memcpy(&seed, buffer, sizeof seed);
  const auto stored = static_cast<std::uint64_t>(seed);
  if (!words_.seed_given) {
    words_.seed = stored;
    stepper_->set_seed(stored);
  } else if (words_.seed != stored) {
    warn("seed " + std::to_string(words_.seed) + " replaces seed " + std::to_string(stored) +
         " of the restart file");
  }
}

void FixMlmod::grow_arrays(int count) { memory->grow(last_, count, kStored, "mlmod:last"); }

void FixMlmod::copy_arrays(int from, int to, int) {
  std::memcpy(last_[to], last_[from], kStored * sizeof(double));
}

void FixMlmod::set_arrays(int local) {
  const double unknown[kStored] = {0, 0, 0, -1};
  std::memcpy(last_[local], unknown, sizeof unknown);
}

int FixMlmod::pack_exchange(int local, double* buffer) {
  std::memcpy(buffer, last_[local], kStored * sizeof(double));
  return kStored;
}

int FixMlmod::unpack_exchange(int local, double* buffer) {
  std::memcpy(last_[local], buffer, kStored * sizeof(double));
  return kStored;
}

int FixMlmod::pack_restart(int local, double* buffer) {
  buffer[0] = kStored + 1;
  std::memcpy(buffer + 1, last_[local], kStored * sizeof(double));
  return kStored + 1;
}

void FixMlmod::unpack_restart(int local, int place) {
  const double* extra = atom->extra[local];
  int begin = 0;
  for (int i = 0; i < place; ++i) begin += static_cast<int>(extra[begin]);
  std::memcpy(last_[local], extra + begin + 1, kStored * sizeof(double));
}

int FixMlmod::size_restart(int) { return kStored + 1; }

int FixMlmod::maxsize_restart() { return kStored + 1; }

double FixMlmod::memory_usage() {
  return last_ ? static_cast<double>(atom->nmax) * kStored * sizeof(double) : 0.0;
}

}  // namespace LAMMPS_NS
