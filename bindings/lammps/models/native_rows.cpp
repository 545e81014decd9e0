#include "models/native_rows.h"

#include <algorithm>

namespace mlmod {

NativeRows::NativeRows(const ModelBundle& bundle)
    : whole_(bundle.sees == Sees::configuration),
      gives_(bundle.gives),
      types_(bundle.types),
      values_(bundle.width()),
      inputs_(bundle.inputs) {}

std::int64_t NativeRows::fill(const Particles& where, std::int64_t width,
                              std::vector<double>& input) const {
  const std::int64_t rows = count(where), atoms = whole_ ? where.count : 1;
  input.assign(static_cast<std::size_t>(rows * width), 0.0);
  std::int64_t column = 0;
  const auto put = [&](const double* data, std::int64_t count, bool same) {
    for (std::int64_t row = 0; row < rows; ++row)
      std::copy_n(data + (same ? 0 : row * count), count, input.data() + row * width + column);
    column += count;
  };
  for (const std::string& name : inputs_) {
    if (name == "x") put(where.x, 3 * atoms, false);
    if (name == "v") put(where.v, 3 * atoms, false);
    if (name == "f") put(where.f, 3 * atoms, false);
    if (name == "time") put(&where.time, 1, true);
    if (name == "cell") put(where.cell.data(), 9, true);
    if (name != "types") continue;
    for (std::int64_t i = 0; i < rows * atoms; ++i)
      input[static_cast<std::size_t>(i / atoms * width + column + i % atoms * types_ +
                                     where.types[i])] = 1;
    column += types_ * atoms;
  }
  return rows;
}

void NativeRows::give(const Particles& where, const std::vector<double>& output,
                      Evaluation& result) const {
  const std::int64_t rows = count(where), block = 3 * (whole_ ? where.count : 1);
  const auto take = [&](std::vector<double>& out, std::int64_t width, std::int64_t first,
                        std::int64_t count) {
    out.resize(static_cast<std::size_t>(rows * count));
    for (std::int64_t row = 0; row < rows; ++row)
      std::copy_n(output.data() + row * width + first, count, out.data() + row * count);
  };
  if (gives_ == Gives::forces) take(result.forces, block, 0, block);
  if (gives_ == Gives::values) take(result.values, values_, 0, values_);
  if (gives_ != Gives::step) return;
  take(result.dx, 2 * block, 0, block);
  take(result.v, 2 * block, block, block);
}

}  // namespace mlmod
