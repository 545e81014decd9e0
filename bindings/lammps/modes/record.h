#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "frame_file.h"
#include "modes/mode.h"
#include "modes/record_words.h"
#include "surroundings.h"

namespace mlmod {

/// Writes frames of the group to an extxyz file, in the order of atom ids: unwrapped positions,
/// velocities, forces, and what other fixes show; only those which a committee is not sure of, if
/// so asked. Scalar: frames written by this fix.
class Record final : public Mode {
 public:
  Record(const RecordWords& words, const Surroundings& around);

  const Needs& needs() const override { return needs_; }
  Output output() const override { return {.scalar = true}; }
  bool acts(const Moment& now) const override;
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
  double scalar() const override { return static_cast<double>(frames_); }
  std::string kind() const override { return "record"; }
  std::vector<double> save() const override { return {static_cast<double>(last_)}; }
  void restore(const std::vector<double>& state) override;

 private:
  void check_sources() const;
  void check_elements() const;
  void check_forces();
  bool due(const Moment& now) const { return now.step % words_.every == 0; }
  bool was_written(const Moment& now, const Configuration& group) const;
  bool is_known(const Configuration& group) const;
  std::string header(const Moment& now, const Configuration& group,
                     std::optional<double> energy) const;
  std::string frame(const Configuration& group, const std::string& header) const;

  RecordWords words_;
  Surroundings around_;
  Needs needs_;
  std::vector<Shown> shown_;       ///< by the fixes of `from`
  std::optional<FrameFile> file_;  ///< on one rank
  bool warned_ = false;
  std::int64_t frames_ = 0;
  std::int64_t last_ = -1;      ///< step of the last frame
  std::vector<double> last_x_;  ///< its positions; empty: not known
};

}  // namespace mlmod
