#pragma once

#include <memory>
#include <string>

#include "command_words.h"
#include "fix.h"
#include "group_gather.h"
#include "modes/mobility.h"

namespace LAMMPS_NS {

/// `fix ID group mlmod FILE ...`: overdamped motion of a group with a learned mobility.
class FixMlmod : public Fix {
 public:
  FixMlmod(LAMMPS* lmp, int narg, char** arg);
  ~FixMlmod() override;

  int setmask() override;
  void init() override;
  void initial_integrate(int) override;
  void final_integrate() override;
  double compute_vector(int index) override;

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

 private:
  // Per atom: the force of the last corrector and the step it belongs to.
  static constexpr int kStored = 4;
  static constexpr int kStamp = 3;

  template <class Body>
  void together(Body&& body);
  void raise_together(const std::string& problem);
  void warn(const std::string& text);
  void create(int narg, char** arg);
  std::unique_ptr<mlmod::MobilitySource> make_source();
  void report() const;
  bool two_stages() const { return parameters_.mode != mlmod::Mode::deterministic_pair; }
  const double* last_force(int local) const;
  void store_forces();
  void euler();
  void correct();

  mlmod::CommandWords words_;
  mlmod::Parameters parameters_;
  std::unique_ptr<mlmod::MobilityStepper> stepper_;
  mlmod::GroupGather gather_;
  double** last_;
};

}  // namespace LAMMPS_NS
