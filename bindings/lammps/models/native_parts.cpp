#include "models/native_parts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace mlmod {

namespace {

using nlohmann::json;

constexpr const char* kPath = "engines.native";
constexpr std::size_t kMostLayers = 64, kMostHidden = 65536;
constexpr std::size_t kMostKicks = 1024, kMostIntervals = 1 << 20, kMostHalvings = 32;

using Shape = std::vector<std::size_t>;

std::string written(const Shape& shape) {
  std::ostringstream text;
  for (const std::size_t extent : shape) text << (text.tellp() > 0 ? ", " : "") << extent;
  return "(" + text.str() + (shape.size() == 1 ? ",)" : ")");
}

class NativeReader {
 public:
  NativeReader(const BundleFile& file, const json& engine, const ModelBundle& bundle)
      : file_(file), engine_(engine), bundle_(bundle) {}

  NativeParts read() {
    native_.kind = file_.text(engine_, kPath, "kind");
    check_kind();
    if (native_.kind == "pair_table") {
      read_table();
    } else if (native_.kind == "splitting") {
      read_splitting();
    } else {
      native_.layers = file_.natural(engine_, kPath, "layers", 1);
      if (native_.layers > kMostLayers)
        file_.fail("field engines.native.layers must be at most " + std::to_string(kMostLayers));
      native_.kind == "mlp" ? read_perceptrons() : read_lstms();
    }
    return std::move(native_);
  }

 private:
  void check_kind() const {
    const bool pairs = bundle_.sees == Sees::neighbors, keeps = bundle_.memory > 0;
    const bool steps = pairs && bundle_.gives == Gives::step;
    const std::string needed = steps ? "splitting" : pairs ? "pair_table" : keeps ? "lstm" : "mlp";
    if (native_.kind == needed) return;
    file_.fail("field engines.native.kind is \"" + native_.kind + "\": a model that " +
               (steps   ? "sees neighbors and gives a step"
                : pairs ? "sees neighbors"
                : keeps ? "has a memory"
                        : "sees no neighbors and has no memory (model.memory)") +
               " needs \"" + needed + "\"");
  }

  void read_table() {
    native_.first = file_.number(engine_, kPath, "first");
    native_.knots = file_.natural(engine_, kPath, "knots", 2);
    if (native_.first < 0 || native_.first >= bundle_.cutoff)
      file_.fail("field engines.native.first must be at least 0 and below model.cutoff");
    if (bundle_.gives == Gives::values && bundle_.width() != 1)
      file_.fail("field model.shape must be [1] for a pair_table");
    const auto pairs = static_cast<std::size_t>(bundle_.types * (bundle_.types + 1) / 2);
    for (std::int64_t k = 0; k < bundle_.members; ++k)
      for (const char* name : {"energy", "slope"}) load(k, name, {pairs, native_.knots});
  }

  void read_splitting() {
    native_.kicks = at_most("kicks", 1, kMostKicks);
    native_.intervals = at_most("intervals", 1, kMostIntervals);
    native_.halvings = at_most("halvings", 0, kMostHalvings);
    native_.u_lo = file_.positive(engine_, kPath, "u_lo");
    native_.u_hi = file_.positive(engine_, kPath, "u_hi");
    if (std::fabs(bundle_.cutoff * native_.u_lo - 1) > 1e-12)
      file_.fail("field engines.native.u_lo must be the inverse of model.cutoff");
    const auto types = static_cast<std::size_t>(bundle_.types);
    load(0, "drifts", {native_.kicks + 1});
    load(0, "masses", {types});
    for (std::size_t halving = 0; halving <= native_.halvings; ++halving)
      load(0, "tables" + std::to_string(halving),
           {(native_.kicks + 1) / 2, types * (types + 1) / 2, native_.intervals, 4});
  }

  std::size_t at_most(const char* name, std::size_t least, std::size_t most) const {
    const std::size_t value = file_.natural(engine_, kPath, name, least);
    if (value > most)
      file_.fail("field engines.native." + std::string(name) + " must be at most " +
                 std::to_string(most));
    return value;
  }

  void read_perceptrons() {
    static const std::vector<std::string> known{"tanh", "silu", "relu", "softplus", "linear"};
    native_.activation = file_.text(engine_, kPath, "activation");
    if (std::find(known.begin(), known.end(), native_.activation) == known.end())
      file_.fail("field engines.native.activation is \"" + native_.activation +
                 "\", it must be one of \"tanh\", \"silu\", \"relu\", \"softplus\", \"linear\"");
    for (std::int64_t k = 0; k < bundle_.members; ++k) read_perceptron(k);
  }

  void read_lstms() {
    native_.hidden = file_.natural(engine_, kPath, "hidden", 1);
    if (native_.hidden > kMostHidden)
      file_.fail("field engines.native.hidden must be at most " + std::to_string(kMostHidden));
    const std::size_t kept = 2 * native_.layers * native_.hidden;
    if (kept != static_cast<std::size_t>(bundle_.memory))
      file_.fail("field model.memory is " + std::to_string(bundle_.memory) + ", an \"lstm\" of " +
                 std::to_string(native_.layers) + " layers of " + std::to_string(native_.hidden) +
                 " units keeps 2 * layers * hidden = " + std::to_string(kept));
    const auto [inputs, outputs] = row_sizes();
    for (std::int64_t k = 0; k < bundle_.members; ++k) {
      for (std::size_t layer = 0; layer < native_.layers; ++layer) {
        const std::string prefix = "lstm" + std::to_string(layer) + ".";
        const std::size_t gates = 4 * native_.hidden;
        load(k, prefix + "w_ih", {gates, layer == 0 ? inputs : native_.hidden});
        load(k, prefix + "w_hh", {gates, native_.hidden});
        load(k, prefix + "b", {gates});
      }
      load(k, "head.w", {outputs, native_.hidden});
      load(k, "head.b", {outputs});
      load_scales(k, inputs, outputs);
    }
  }

  /// Numbers of an input row and of an output row.
  std::pair<std::size_t, std::size_t> row_sizes() const {
    if (bundle_.gives == Gives::energy)
      file_.fail("field engines.native.kind: an \"mlp\" gives forces, a step or values");
    const bool whole = bundle_.sees == Sees::configuration;
    if (whole && bundle_.particles == 0)
      file_.fail("field model.particles must be a number for an \"" + native_.kind +
                 "\" of a configuration");
    const std::int64_t n = whole ? bundle_.particles : 1;
    const std::map<std::string, std::int64_t> widths{{"x", 3 * n}, {"v", 3 * n},
                                                     {"f", 3 * n}, {"types", bundle_.types * n},
                                                     {"time", 1},  {"cell", 9}};
    std::int64_t inputs = 0;
    for (const std::string& input : bundle_.inputs) inputs += widths.at(input);
    const std::int64_t outputs = bundle_.gives == Gives::values   ? bundle_.width()
                                 : bundle_.gives == Gives::forces ? 3 * n
                                                                  : 6 * n;
    return {static_cast<std::size_t>(inputs), static_cast<std::size_t>(outputs)};
  }

  void read_perceptron(std::int64_t k) {
    std::vector<std::string> names;
    for (std::size_t layer = 0; layer < native_.layers; ++layer)
      for (const char* kind : {"w", "b"}) names.push_back(member(k, kind + std::to_string(layer)));
    auto tensors = file_.tensors(names);
    std::size_t width = 0, inputs = 0;
    for (std::size_t layer = 0; layer < native_.layers; ++layer) {
      const Tensor& w = tensors[names[2 * layer]];
      const Tensor& b = tensors[names[2 * layer + 1]];
      if (w.shape.size() != 2 || (layer > 0 && w.shape[1] != width) || w.values.empty())
        wrong_shape(names[2 * layer]);
      if (layer == 0) inputs = w.shape[1];
      width = w.shape[0];
      if (b.shape != Shape{width}) wrong_shape(names[2 * layer + 1]);
    }
    if (const auto sizes = row_sizes(); sizes.first != inputs || sizes.second != width)
      throw std::runtime_error("'" + file_.path(BundleFile::weights) + "': member " +
                               std::to_string(k) + " maps " + std::to_string(inputs) +
                               " numbers to " + std::to_string(width) + ", the manifest says " +
                               std::to_string(sizes.first) + " to " + std::to_string(sizes.second));
    native_.tensors.merge(tensors);
    load_scales(k, inputs, width);
  }

  void load_scales(std::int64_t k, std::size_t inputs, std::size_t outputs) {
    load(k, "in_shift", {inputs});
    load(k, "in_scale", {inputs});
    load(k, "out_shift", {outputs});
    load(k, "out_scale", {outputs});
    for (const double scale : native_.tensors[member(k, "in_scale")].values)
      if (scale == 0)
        throw std::runtime_error(label(member(k, "in_scale")) + " must not hold a zero");
  }

  static std::string member(std::int64_t k, const std::string& name) {
    return "m" + std::to_string(k) + "." + name;
  }

  void load(std::int64_t k, const std::string& part, const Shape& shape) {
    const std::string name = member(k, part);
    auto tensors = file_.tensors({name});
    if (const Shape& found = tensors[name].shape; found != shape)
      throw std::runtime_error(label(name) + " has the shape " + written(found) +
                               ", it does not have the shape that the manifest says, " +
                               written(shape));
    native_.tensors.merge(tensors);
  }

  std::string label(const std::string& name) const {
    return "'" + file_.path(BundleFile::weights) + "': tensor '" + name + "'";
  }

  [[noreturn]] void wrong_shape(const std::string& name) const {
    throw std::runtime_error(label(name) + " does not have the shape that the manifest says");
  }

  const BundleFile& file_;
  const json& engine_;
  const ModelBundle& bundle_;
  NativeParts native_;
};

}  // namespace

NativeParts read_native_parts(const BundleFile& file, const json& engine,
                              const ModelBundle& bundle) {
  return NativeReader(file, engine, bundle).read();
}

}  // namespace mlmod
