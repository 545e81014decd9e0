#include "masked_input.h"

#include <algorithm>

namespace mlmod {

const std::vector<std::string>& InputMask::names() {
  static const std::vector<std::string> all{"X", "V", "F", "Type", "Time"};
  return all;
}

InputMask InputMask::from(const std::set<std::string>& words) {
  return {.x = words.contains("X"),
          .v = words.contains("V"),
          .f = words.contains("F"),
          .type = words.contains("Type"),
          .time = words.contains("Time")};
}

void InputMask::ask(Needs& needs) const {
  needs.v = needs.v || v;
  needs.f = needs.f || f;
  needs.types = needs.types || type;
}

void whole_column(const InputMask& mask, const Configuration& group, double time,
                  std::vector<float>& column) {
  column.clear();
  column.reserve(static_cast<std::size_t>(mask.size(group.size())));
  const auto append = [&](bool wanted, const auto& block) {
    if (wanted)
      for (const auto value : block) column.push_back(static_cast<float>(value));
  };
  append(mask.x, group.x);
  append(mask.v, group.v);
  append(mask.f, group.f);
  append(mask.type, group.types);
  if (mask.time) column.push_back(static_cast<float>(time));
}

float* atoms_column(const InputMask& mask, const SeenAtom* atoms, int count, double time,
                    float* column) {
  const auto block = [&](bool wanted, const double* SeenAtom::* part) {
    if (!wanted) return;
    for (int a = 0; a < count; ++a)
      for (int k = 0; k < 3; ++k) *column++ = static_cast<float>((atoms[a].*part)[k]);
  };
  block(mask.x, &SeenAtom::x);
  block(mask.v, &SeenAtom::v);
  block(mask.f, &SeenAtom::f);
  if (mask.type)
    for (int a = 0; a < count; ++a) *column++ = static_cast<float>(atoms[a].type);
  if (mask.time) *column++ = static_cast<float>(time);
  return column;
}

std::vector<float> sample_columns(const InputMask& mask, int atoms, int count,
                                  const Surroundings& around) {
  const mlcore::Cell box = mlcore::completed(around.cell);
  std::mt19937 generator(1);
  std::uniform_real_distribution<double> uniform(0.02, 0.98);
  std::vector<float> columns(static_cast<std::size_t>(count * mask.size(atoms)));
  float* out = columns.data();
  for (int row = 0; row < count; ++row) {
    double x[2][3], v[2][3], f[2][3];
    SeenAtom sample[2];
    for (int a = 0; a < atoms; ++a) {
      const double s[3] = {uniform(generator), uniform(generator), uniform(generator)};
      for (int k = 0; k < 3; ++k) {
        x[a][k] = around.origin[static_cast<std::size_t>(k)] + s[0] * box.rows[k] +
                  s[1] * box.rows[3 + k] + s[2] * box.rows[6 + k];
        v[a][k] = uniform(generator) - 0.5;
        f[a][k] = uniform(generator) - 0.5;
      }
      sample[a] = {x[a], v[a], f[a], 1 + (row + a) % std::max(around.types, 1)};
    }
    out = atoms_column(mask, sample, atoms, 0.1 * row, out);
  }
  return columns;
}

}  // namespace mlmod
