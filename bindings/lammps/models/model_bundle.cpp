#include "models/model_bundle.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "bundle_file.h"
#include "bundle_units.h"
#include "models/native_parts.h"

namespace mlmod {

namespace {

using nlohmann::json;

constexpr std::array kInputs{"x", "v", "f", "types", "time", "cell"};

std::string quoted(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "\"" : ", \"") + word + "\"";
  return text;
}

class Reader {
 public:
  Reader(const std::string& folder, const std::string& kind) : file_(folder) {
    bundle_.folder = folder;
    bundle_.kind = kind;
  }

  ModelBundle read() {
    if (file_.kind() != bundle_.kind)
      file_.fail("field kind is \"" + file_.kind() + "\", this mode needs \"" + bundle_.kind +
                 "\"");
    read_units();
    read_model(file_.field(file_.manifest(), "manifest", "model"));
    check_model();
    file_.verify();
    read_engines(file_.field(file_.manifest(), "manifest", "engines"));
    return std::move(bundle_);
  }

 private:
  std::string word(const json& parent, const std::string& path, const char* name,
                   const std::vector<std::string>& allowed) const {
    const std::string found = file_.text(parent, path, name);
    if (std::find(allowed.begin(), allowed.end(), found) == allowed.end())
      file_.fail("field " + path + "." + name + " is \"" + found + "\", it must be one of " +
                 quoted(allowed));
    return found;
  }

  static bool given(const json& parent, const char* name) {
    const auto entry = parent.find(name);
    return entry != parent.end() && !entry->is_null();
  }

  void read_units() {
    const json& units = file_.field(file_.manifest(), "manifest", "units");
    bundle_.length_unit = file_.text(units, "units", "length");
    bundle_.energy_unit = file_.text(units, "units", "energy");
    bundle_.time_unit = file_.text(units, "units", "time");
  }

  void read_model(const json& model) {
    const std::string sees = word(model, "model", "sees", {"neighbors", "atoms", "configuration"});
    const std::string gives = word(model, "model", "gives", {"energy", "forces", "step", "values"});
    bundle_.sees = sees == "neighbors" ? Sees::neighbors
                   : sees == "atoms"   ? Sees::atoms
                                       : Sees::configuration;
    bundle_.gives = gives == "energy"   ? Gives::energy
                    : gives == "forces" ? Gives::forces
                    : gives == "step"   ? Gives::step
                                        : Gives::values;
    bundle_.dtype = word(model, "model", "dtype", {"float32", "float64"});
    bundle_.types = integer(model, "types");
    bundle_.members = integer(model, "members");
    if (given(model, "cutoff")) bundle_.cutoff = file_.positive(model, "model", "cutoff");
    if (given(model, "particles")) bundle_.particles = integer(model, "particles");
    if (given(model, "timestep")) bundle_.timestep = file_.positive(model, "model", "timestep");
    read_inputs(model);
    read_shape(model);
    read_memory(model);
  }

  void read_memory(const json& model) {
    constexpr std::size_t most = 1 << 20;
    if (!given(model, "memory")) return;
    const std::size_t memory = file_.natural(model, "model", "memory", 0);
    if (memory > most) file_.fail("field model.memory must be at most " + std::to_string(most));
    bundle_.memory = static_cast<std::int64_t>(memory);
    if (memory > 0 && bundle_.kind != "dynamics")
      file_.fail("field model.memory: a model of kind \"" + bundle_.kind +
                 "\" keeps no state from step to step; only kind \"dynamics\" does");
  }

  std::int64_t integer(const json& model, const char* name) const {
    constexpr std::size_t most = 1 << 30;
    const std::size_t value = file_.natural(model, "model", name, 1);
    if (value > most) file_.fail("field model." + std::string(name) + " is too large");
    return static_cast<std::int64_t>(value);
  }

  void read_inputs(const json& model) {
    if (!given(model, "inputs")) return;
    const json& inputs = model["inputs"];
    if (!inputs.is_array()) file_.fail("field model.inputs must be a list");
    std::size_t next = 0;
    for (const json& input : inputs) {
      const auto known = std::find_if(kInputs.begin() + next, kInputs.end(),
                                      [&](const char* name) { return input == name; });
      if (known == kInputs.end())
        file_.fail(
            "field model.inputs must hold some of \"x\", \"v\", \"f\", \"types\", \"time\", "
            "\"cell\", each once and in this order");
      next = static_cast<std::size_t>(known - kInputs.begin()) + 1;
      bundle_.inputs.emplace_back(*known);
    }
  }

  void read_shape(const json& model) {
    if (bundle_.gives != Gives::values) return;
    const json& shape = file_.field(model, "model", "shape");
    constexpr std::int64_t most = 1 << 20;
    bool good = shape.is_array() && (shape.size() == 1 || shape.size() == 2);
    std::int64_t count = 1;
    for (std::size_t k = 0; good && k < shape.size(); ++k) {
      good = shape[k].is_number_unsigned() && shape[k] >= 1 && shape[k] <= most / count;
      if (good) count *= shape[k].get<std::int64_t>();
      if (good) bundle_.shape.push_back(shape[k].get<std::int64_t>());
    }
    if (!good) file_.fail("field model.shape must be [K] or [K, L] with numbers of at least 1");
    if (bundle_.sees == Sees::configuration) return;
    const std::string reduce = word(model, "model", "reduce", {"none", "mean", "sum"});
    bundle_.reduce = reduce == "mean" ? Reduce::mean : reduce == "sum" ? Reduce::sum : Reduce::none;
    if (bundle_.shape.size() != 1)
      file_.fail("field model.shape must be [K] for a model that sees atoms or neighbors");
  }

  void check_model() const {
    const bool fits = bundle_.kind == "force"
                          ? bundle_.gives == Gives::energy || bundle_.gives == Gives::forces
                          : bundle_.gives == (bundle_.kind == "qoi" ? Gives::values : Gives::step);
    if (!fits) file_.fail("field model.gives does not fit kind \"" + bundle_.kind + "\"");
    if (bundle_.sees == Sees::neighbors) return check_neighbors();
    if (bundle_.inputs.empty()) file_.fail("field model.inputs must name at least one input");
    if (bundle_.gives == Gives::energy && !bundle_.wants("x"))
      file_.fail("field model.inputs must hold \"x\" for a model that gives an energy");
  }

  void check_neighbors() const {
    if (!(bundle_.cutoff > 0))
      file_.fail("field model.cutoff must be a positive number for a model that sees neighbors");
    if (bundle_.gives == Gives::forces)
      file_.fail(
          "field model.gives must be \"energy\", \"step\" or \"values\" for a model that sees "
          "neighbors");
    if (bundle_.gives == Gives::step) check_splitting();
    if (!bundle_.inputs.empty())
      file_.fail("field model.inputs must be absent for a model that sees neighbors");
  }

  /// Steps of a model that sees neighbors.
  void check_splitting() const {
    if (bundle_.timestep == 0 || bundle_.members != 1 || bundle_.dtype != "float64")
      file_.fail(
          "a model that sees neighbors and gives a step must have a model.timestep, one member and "
          "dtype \"float64\"");
  }

  void read_engines(const json& engines) {
    if (!engines.is_object()) file_.fail("field manifest.engines must be an object");
    if (bundle_.sees == Sees::neighbors && bundle_.gives == Gives::step)
      file_.field(engines, "engines", "native");
    if (given(engines, "native"))
      bundle_.native = read_native_parts(file_, engines["native"], bundle_);
    if (given(engines, "torchscript"))
      bundle_.torchscript = files(engines["torchscript"], "engines.torchscript");
    if (given(engines, "compiled")) read_compiled(engines["compiled"]);
    if (!bundle_.native && bundle_.torchscript.empty() && !bundle_.compiled)
      file_.fail("field manifest.engines must hold native, torchscript or compiled");
  }

  std::vector<std::string> files(const json& engine, const std::string& path) const {
    const json& names = file_.field(engine, path, "files");
    if (!names.is_array() || names.size() != static_cast<std::size_t>(bundle_.members))
      file_.fail("field " + path + ".files must list one file per member, that is " +
                 std::to_string(bundle_.members));
    std::vector<std::string> found;
    for (const json& name : names) {
      if (!name.is_string() || !file_.lists(name.get<std::string>()))
        file_.fail("field " + path + ".files: " + name.dump() + " is not listed in files");
      found.push_back(name.get<std::string>());
    }
    return found;
  }

  void read_compiled(const json& engine) {
    const std::string path = "engines.compiled";
    bundle_.compiled = CompiledParts{
        .files = files(engine, path),
        .torch = file_.text(engine, path, "torch"),
        .instruction_set = word(engine, path, "instruction_set", {"avx512", "avx2", "baseline"}),
        .device = word(engine, path, "device", {"cpu", "cuda"})};
  }

  BundleFile file_;
  ModelBundle bundle_;
};

}  // namespace

bool ModelBundle::wants(const std::string& input) const {
  return std::find(inputs.begin(), inputs.end(), input) != inputs.end();
}

std::int64_t ModelBundle::width() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

ModelBundle read_model_bundle(const std::string& folder, const std::string& kind) {
  try {
    return Reader(folder, kind).read();
  } catch (const std::exception& error) {
    throw std::runtime_error("bundle " + std::string(error.what()));
  }
}

void check_units(const ModelBundle& bundle, const std::string& style) {
  check_units(bundle.folder, {bundle.length_unit, bundle.energy_unit, bundle.time_unit}, style);
}

}  // namespace mlmod
