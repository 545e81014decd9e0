#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configuration.h"
#include "local_atoms.h"

namespace mlmod {

/// When a mode is called; a mode asks for a set of these.
enum Hook : unsigned {
  kCreation = 1u << 0,  ///< when the fix is made: to know the shape of the output
  kSetup = 1u << 1,     ///< start of a run or a minimisation, after the forces
  kInitialIntegrate = 1u << 2,
  kPostForce = 1u << 3,  ///< also in a minimisation, where the mode gives forces
  kFinalIntegrate = 1u << 4,
  kEndOfStep = 1u << 5,
};

enum class Sight {
  whole,  ///< Configuration: gathered to every rank
  local,  ///< LocalAtoms: nothing leaves its rank but ghosts
};

/// What a mode wants from the fix that runs it. Constant once the mode is made.
struct Needs {
  unsigned hooks = 0;
  Sight sight = Sight::whole;
  bool v = false, f = false, types = false;  ///< columns besides ids and positions
  bool local_order = false;  ///< whole: in the order of ranks and their memory, MLMOD's
  int stored = 0;            ///< numbers kept with each atom; they migrate and go to restart files
  bool last_forces = false;  ///< stored are of the forces computed last: -1 when anything but runs
                             ///< has changed what these depend on
  bool unwrapped = false;    ///< whole: positions as if there were no boundaries
  double cutoff = 0;         ///< local: > 0 asks for ghosts and candidates
  bool home = false;         ///< local with a cutoff: LocalAtoms::home too
  bool integrates = false;   ///< moves the atoms: no fix nve beside it
  bool forces = false;       ///< adds to the forces
  bool complete = false;     ///< local: Change::f is whole on owned rows, none is on ghosts
  int partial = 0;           ///< local: columns of Change::partial, see on_complete()
  bool energy = false;       ///< Change::energy is filled
  bool virial = false;       ///< Change::virial is filled
  bool external = false;     ///< virial of the forces on unwrapped positions, like fix addforce's
  bool atom_energy = false;  ///< Change::energies are filled when Moment asks for them
  bool atom_virial = false;  ///< Change::virials are filled when Moment asks for them
  bool shared = false;       ///< whole: each rank gives its part of f, energy and virial
  bool saves = false;        ///< save() and restore() go to restart files
  std::vector<std::string> beside;  ///< whole: fixes whose values per atom come along
};

/// One call.
struct Moment {
  Hook hook = kSetup;
  std::int64_t step = 0;
  double dt = 0;
  double time = 0;  ///< of the simulation, right after changes of the timestep
  bool minimizing = false;
  bool virial = false;       ///< Change::virial is used
  bool atom_energy = false;  ///< Change::energies are used
  bool atom_virial = false;  ///< Change::virials are used
};

/// What a mode gives back; what stays empty changes nothing. Rows are those of the Configuration or
/// the members of LocalAtoms.
struct Change {
  std::vector<double> dx;        ///< (owned rows, 3) added to the positions
  std::vector<double> v;         ///< (owned rows, 3) replaces the velocities
  std::vector<double> f;         ///< (rows, 3), ghosts too: added to the forces
  std::vector<double> stored;    ///< (owned rows, Needs::stored) replaces
  std::vector<double> partial;   ///< (rows, Needs::partial), ghosts too: summed over the images
  std::vector<double> per_atom;  ///< (owned rows, Output::per_atom)
  std::vector<double> energies;  ///< (owned rows,)
  std::vector<double> virials;   ///< (rows, 6), ghosts too unless Needs::complete
  double energy = 0;             ///< of the whole group (Sight::whole) or this rank's part
  double virial[6] = {};         ///< xx, yy, zz, xy, xz, yz; whole or part like the energy
  std::vector<double> sums;      ///< summed over ranks (local or shared), handed to reduced()
  std::vector<double> maxima;    ///< the largest over ranks, handed to reduced()

  void clear() {
    for (auto* column :
         {&dx, &v, &f, &stored, &partial, &per_atom, &energies, &virials, &sums, &maxima})
      column->clear();
    energy = 0;
    for (double& value : virial) value = 0;
  }
};

/// What LAMMPS can read from the fix.
struct Output {
  bool scalar = false;  ///< Needs::energy gives the energy as scalar without this
  int vector = 0;
  int rows = 0, columns = 0;
  bool array = false;      ///< rows and columns may become known later
  int per_atom = 0;        ///< columns; 1 is a per-atom vector
  std::int64_t every = 1;  ///< steps between new values
  int spreads = 0;         ///< the last so many numbers of the vector are a committee's spread
};

/// A learned model at work on the atoms of one fix. Knows nothing of LAMMPS: it sees plain columns,
/// gives back plain columns, and throws std::runtime_error naming the file that is wrong.
class Mode {
 public:
  virtual ~Mode() = default;

  int verbosity = 1;  ///< 0: the fix says nothing of its own accord

  virtual const Needs& needs() const = 0;
  virtual Output output() const { return {}; }

  /// Whether it has anything to do now; saves the gathering. The same on every rank.
  virtual bool acts(const Moment&) const { return true; }
  virtual void on_whole(const Moment&, const Configuration&, Change&) {}
  virtual void on_local(const Moment&, const LocalAtoms&, Change&) {}
  /// After on_local() of a mode with Needs::partial: Change::partial (owned rows, partial) with
  /// what images and other ranks add to it.
  virtual void on_complete(const Moment&, const std::vector<double>& /*complete*/, Change&) {}
  virtual void reduced(const std::vector<double>& /*sums*/, const std::vector<double>& /*maxima*/) {
  }

  virtual double scalar() const { return 0; }
  virtual double vector(int /*index*/) const { return 0; }
  virtual double array(int /*row*/, int /*column*/) const { return 0; }

  /// Names what save() gives: a fix reads back the state of its own kind alone.
  virtual std::string kind() const { return {}; }
  /// Same on every rank; written to and read from restart files.
  virtual std::vector<double> save() const { return {}; }
  virtual void restore(const std::vector<double>& /*state*/) {}
};

}  // namespace mlmod
