#pragma once

#include <memory>
#include <string>

#include "fix.h"
#include "group_gather.h"
#include "group_local.h"
#include "modes/mode.h"
#include "run_boundary.h"
#include "simulation.h"
#include "surroundings.h"

namespace LAMMPS_NS {

/// The fix styles of the plugin: hands LAMMPS' atoms to one Mode and puts back what it returns.
class FixModel : public Fix {
 public:
  /// Makes a mode from the words after the style's name.
  using MakeMode = std::unique_ptr<mlmod::Mode> (*)(const std::vector<std::string>& words,
                                                    const mlmod::Surroundings& around);

  FixModel(LAMMPS* lmp, int narg, char** arg, MakeMode make);
  ~FixModel() override;

  int setmask() override;
  void init() override;
  void setup(int vflag) override;
  void min_setup(int vflag) override;
  void setup_pre_exchange() override;
  void setup_post_neighbor() override;
  void post_neighbor() override;
  void min_post_neighbor() override;
  void initial_integrate(int) override;
  void post_force(int vflag) override;
  void min_post_force(int vflag) override;
  void final_integrate() override;
  void end_of_step() override;
  void post_run() override;

  double compute_scalar() override;
  double compute_vector(int index) override;
  double compute_array(int row, int column) override;

  int pack_forward_comm(int count, int* list, double* buffer, int, int*) override;
  void unpack_forward_comm(int count, int first, double* buffer) override;
  int pack_reverse_comm(int count, int first, double* buffer) override;
  void unpack_reverse_comm(int count, int* list, double* buffer) override;

  int modify_param(int narg, char** arg) override;
  void write_restart(FILE* file) override;
  void restart(char* buffer) override;
  void grow_arrays(int count) override;
  void copy_arrays(int from, int to, int) override;
  void set_arrays(int local) override;
  int pack_exchange(int local, double* buffer) override;
  int unpack_exchange(int local, double* buffer) override;
  int pack_restart(int local, double* buffer) override;
  void unpack_restart(int local, int place) override;
  int size_restart(int local) override;
  int maxsize_restart() override;
  double memory_usage() override;

  /// "force", "qoi", ... of fix mlcore; empty for other styles.
  const std::string& mode_name() const { return mode_name_; }
  int spreads() const { return output_.spreads; }

 private:
  template <class Body>
  void together(Body&& body);
  bool in_run() const;
  std::string name() const;
  void warn(const std::string& text) const;

  mlmod::Surroundings surroundings();
  double variable_now(const std::string& name) const;
  void set_flags();
  void tell_cost();
  void show_output();
  void start_kept();
  int boundary_columns() const { return needs_.last_forces ? mlmod::RunBoundary::kColumns : 0; }
  int kept() const { return needs_.stored + boundary_columns(); }
  std::vector<double> kept_of(int local) const;
  std::vector<int> force_fixes() const;
  void forget();
  void forget_what_changed();
  void note_boundary();
  bool forces_come_later() const;
  void warn_of_later_forces();
  std::size_t digest_of_forces() const;
  void look_again();
  void start_tally(int vflag);
  void need_atoms_as_they_are() const;
  void need_an_energy_to_minimize() const;
  void need_what_ghosts_need() const;
  void need_ghosts_of_the_group() const;
  void reach_ghosts() const;

  bool sees_ghosts() const;
  mlmod::Moment moment(mlmod::Hook hook) const;
  void act(mlmod::Hook hook);
  void complete(const mlmod::Moment& now);
  void bring_home(const std::vector<double>& values, int columns);
  void look();
  void send_to_ghosts();
  void reduce();
  void apply();
  const std::vector<mlmod::OwnedRow>& owned() const;
  void add_forces();
  void tally();
  void tally_atoms();
  void warn_of_extent();
  void show_per_atom();
  double* shown_of(int local) const;

  std::string mode_name_;
  std::unique_ptr<mlmod::Mode> mode_;
  mlmod::Needs needs_;
  mlmod::Output output_;
  mlmod::Change change_;
  mlmod::GroupGather gather_;
  mlmod::GroupLocal local_;
  mlmod::Simulation simulation_;
  mlmod::RunBoundary boundary_;
  double** stored_ = nullptr;       ///< (nmax, Needs::stored) and, if any, what boundary_ notes
  double** shown_ = nullptr;        ///< (nmax, Output::per_atom)
  double* shown_column_ = nullptr;  ///< (nmax,) when there is one column
  bool told_cost_ = false;
  bool stepped_ = false;             ///< since the last setup
  double force_field_ = 0;           ///< mark of boundary_ at the end of the last run; 0: none
  std::vector<int> force_fixes_;     ///< that there were then; empty after a restart
  bool renew_ = false;               ///< fix_modify asked to forget
  bool foreign_ = false;             ///< the restart file holds the state of another kind of mode
  std::int64_t unseen_forces_ = -1;  ///< step at whose setup later fixes change the forces
  std::size_t seen_forces_ = 0;      ///< digest of those that were seen
  bool warned_of_forces_ = false;
  bool warned_of_extent_ = false;
  double energy_ = 0;             ///< this rank's part
  std::vector<double> received_;  ///< (owned + ghosts, 6) velocities and forces of ghosts
  std::vector<double> pushed_;    ///< (owned + ghosts, pushed_width_) on their way to the owners
  int pushed_width_ = 3;
};

}  // namespace LAMMPS_NS
