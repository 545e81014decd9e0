#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/engine.h"

namespace mlmod {

/// Rows of numbers that native networks see and give: one of each atom, or one of the whole
/// configuration. A row of inputs holds the blocks x, v, f (3 numbers an atom), types (one-hot),
/// time, cell; a row of outputs the forces, dx and then v, or the values.
class NativeRows {
 public:
  explicit NativeRows(const ModelBundle& bundle);

  std::int64_t count(const Particles& where) const { return whole_ ? 1 : where.count; }
  /// Fills (rows, width) and returns the number of rows.
  std::int64_t fill(const Particles& where, std::int64_t width, std::vector<double>& input) const;
  /// Takes apart the outputs of all rows.
  void give(const Particles& where, const std::vector<double>& output, Evaluation& result) const;

 private:
  bool whole_;
  Gives gives_;
  std::int64_t types_, values_;
  std::vector<std::string> inputs_;
};

}  // namespace mlmod
