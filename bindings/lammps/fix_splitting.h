#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fix.h"
#include "group_local.h"
#include "models/splitting_model.h"

namespace LAMMPS_NS {

class Pair;

/// `fix ID all mlcore dynamics BUNDLE` where the bundle is a splitting: all atoms drift and are
/// kicked in turn at the start of every step; the forces of a step are none of its business.
/// Vector: steps that were made of shorter ones, closest pair that a kick saw in the last step,
/// how often neighbors were found anew within a step.
class FixSplitting : public Fix {
 public:
  /// Whether the words of a command are for this fix.
  static bool is_meant(int narg, char** arg);

  FixSplitting(LAMMPS* lmp, int narg, char** arg);
  ~FixSplitting() override;

  int setmask() override;
  void init() override;
  void pre_neighbor() override;
  void setup_post_neighbor() override;
  void post_neighbor() override;
  void initial_integrate(int) override;
  void pre_force(int) override;
  void pre_reverse(int, int) override;
  double compute_vector(int index) override;
  void write_restart(FILE* file) override;
  void restart(char* buffer) override;
  double memory_usage() override;

 private:
  /// What all ranks know of a step that was tried.
  struct Outcome {
    double closest = 0;   ///< distance of a pair that a kick saw
    double reach = 0;     ///< farthest that an atom was from where the list was made, at a kick
    double ahead = 0;     ///< the same for the next step, if nothing pushed
    double surprise = 0;  ///< by how much an atom went farther than it would have freely
    bool sound = true;    ///< everything is finite
    std::string problem;  ///< of this rank, where it is not
  };

  std::string name() const;
  void warn(const std::string& text) const;
  void need_all_atoms() const;
  void need_ghosts() const;
  void check_atoms() const;
  void warn_of_forces();

  void advance(int halving);
  Outcome attempt(int halving);
  void redo(int halving, const Outcome& made);
  void keep();
  void undo();
  void drift(double time);
  double kick(const mlcore::PairSplitting& step, int stage);
  double moved(double ahead) const;
  void find_neighbors_within_step();
  bool forces_are_wanted() const;
  bool pair_sleeps() const;
  void wake_lists();

  std::optional<mlmod::SplittingModel> model_;
  mlmod::GroupLocal local_;
  int verbose_ = 1;
  bool always_ = false;  ///< forces in every step
  bool warned_ = false;
  bool fresh_ = false;         ///< no step since neighbors were found
  std::vector<double> built_;  ///< (owned, 3) where they were then
  std::vector<double> x_, v_;  ///< (owned, 3) before the step that is tried
  double surprise_ = 0;        ///< the largest of late, which fade
  double closest_ = std::numeric_limits<double>::infinity();  ///< that a kick saw in the last step
  double done_shorter_ = 0, found_within_ = 0;                ///< counts
  std::unique_ptr<Pair> none_;                                ///< computes nothing
  Pair* pair_ = nullptr;      ///< what none_ stands for at this moment
  bool lists_sleep_ = false;  ///< those of the pair style were not made last time
  int lists_ = 0;             ///< how many there are, while none are made
};

}  // namespace LAMMPS_NS
