#pragma once

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "mode.h"
#include "surroundings.h"

namespace mlmod {

/// What MLMOD's <mask_input> lets a model see: blocks X, V, F, Type, Time in this order, one
/// float32 column.
struct InputMask {
  bool x = false, v = false, f = false, type = false, time = false;

  /// Words of <mask_input>.
  static const std::vector<std::string>& names();
  static InputMask from(const std::set<std::string>& words);

  void ask(Needs& needs) const;

  /// Numbers in the column of a model that sees `atoms` atoms.
  std::int64_t size(std::int64_t atoms) const {
    return atoms * (3 * x + 3 * v + 3 * f + type) + time;
  }
};

/// One column of all rows of the configuration.
void whole_column(const InputMask& mask, const Configuration& group, double time,
                  std::vector<float>& column);

/// What is seen of one atom; null where the mask leaves it out.
struct SeenAtom {
  const double* x;
  const double* v;
  const double* f;
  std::int32_t type;
};

/// Writes the column of one or two atoms and returns its end.
float* atoms_column(const InputMask& mask, const SeenAtom* atoms, int count, double time,
                    float* column);

/// Atom `row` of a view.
template <class View>
SeenAtom seen(const InputMask& mask, const View& view, std::int64_t row) {
  return {view.x.data() + 3 * row, mask.v ? view.v.data() + 3 * row : nullptr,
          mask.f ? view.f.data() + 3 * row : nullptr, mask.type ? view.types[row] : 0};
}

/// Columns for trying out a model of `atoms` atoms in this box.
std::vector<float> sample_columns(const InputMask& mask, int atoms, int count,
                                  const Surroundings& around);

}  // namespace mlmod
