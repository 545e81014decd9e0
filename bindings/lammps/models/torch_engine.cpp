#include "models/torch_engine.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "torch_errors.h"

namespace mlmod {

namespace {

using Tensors = std::vector<at::Tensor>;

// Edges or rows of one call: what a layer makes of them stays in the cache.
constexpr std::int64_t kEdges = 16384;
constexpr std::int64_t kRows = 16384;

at::Tensor checked(const at::Tensor& tensor, const std::string& what, at::ScalarType type,
                   const std::vector<std::int64_t>& shape) {
  if (!tensor.defined() || tensor.scalar_type() != type ||
      tensor.sizes() != at::IntArrayRef(shape)) {
    std::ostringstream text;
    text << "returns " << what << " of ";
    if (tensor.defined())
      text << "type " << tensor.scalar_type() << " and shape " << tensor.sizes();
    else
      text << "no value";
    text << ", expected " << type << " and " << at::IntArrayRef(shape);
    throw std::runtime_error(text.str());
  }
  return tensor.detach().to(at::kCPU).contiguous();
}

template <class Real>
void copy_out(const at::Tensor& tensor, double* out) {
  const Real* data = tensor.const_data_ptr<Real>();
  std::copy(data, data + tensor.numel(), out);
}

void copy_out(const at::Tensor& tensor, double* out) {
  tensor.scalar_type() == at::kDouble ? copy_out<double>(tensor, out)
                                      : copy_out<float>(tensor, out);
}

/// One member: what comes out of the file, and energies with the negative gradient.
class Network {
 public:
  virtual ~Network() = default;
  virtual Tensors run(const Tensors& inputs) = 0;
  /// Of the sum of the first `counted` energies by inputs[which].
  virtual std::pair<at::Tensor, at::Tensor> descend(const Tensors& inputs, std::size_t which,
                                                    std::int64_t counted) = 0;
};

class ScriptNetwork final : public Network {
 public:
  ScriptNetwork(const std::string& path, at::ScalarType type, bool convert, at::Device device) {
    const c10::InferenceMode inference(false);
    module_ = torch::jit::load(path, device);
    module_.eval();
    if (convert) module_.to(type);
    for (at::Tensor parameter : module_.parameters()) parameter.set_requires_grad(false);
  }

  Tensors run(const Tensors& inputs) override {
    const at::NoGradGuard no_grad;
    return call(inputs);
  }

  std::pair<at::Tensor, at::Tensor> descend(const Tensors& inputs, std::size_t which,
                                            std::int64_t counted) override {
    const at::AutoGradMode with_gradients(true);
    Tensors leaves = inputs;
    leaves[which] = inputs[which].detach().requires_grad_(true);
    const at::Tensor energies = call(leaves).at(0);
    const at::Tensor none = at::zeros_like(inputs[which]);
    if (!energies.requires_grad()) return {energies, none};
    const at::Tensor sum = energies.dim() == 0 ? energies : energies.narrow(0, 0, counted).sum();
    const at::Tensor gradient = torch::autograd::grad({sum}, {leaves[which]}, {}, std::nullopt,
                                                      false, /*allow_unused=*/true)[0];
    return {energies, gradient.defined() ? gradient.neg() : none};
  }

 private:
  Tensors call(const Tensors& inputs) {
    // Optimising the graph takes seconds and starts again with every number of edges.
    const torch::jit::GraphOptimizerEnabledGuard unoptimised(false);
    const c10::IValue value = module_.forward({inputs.begin(), inputs.end()});
    if (value.isTensor()) return {value.toTensor()};
    if (!value.isTuple())
      throw std::runtime_error("returns " + value.tagKind() + " where tensors are expected");
    Tensors found;
    for (const c10::IValue& element : value.toTupleRef().elements()) {
      if (!element.isTensor())
        throw std::runtime_error("returns " + element.tagKind() + " where a tensor is expected");
      found.push_back(element.toTensor());
    }
    return found;
  }

  torch::jit::Module module_;
};

class CompiledNetwork final : public Network {
 public:
  CompiledNetwork(const std::string& path, bool gives_forces)
      : loader_(path, "model", /*run_single_threaded=*/true), gives_forces_(gives_forces) {}

  Tensors run(const Tensors& inputs) override {
    const at::NoGradGuard no_grad;
    Tensors contiguous;
    for (const at::Tensor& input : inputs) contiguous.push_back(input.contiguous());
    return loader_.run(contiguous);
  }

  std::pair<at::Tensor, at::Tensor> descend(const Tensors& inputs, std::size_t,
                                            std::int64_t) override {
    const Tensors found = run(inputs);
    if (found.size() != 2)
      throw std::runtime_error("returns " + std::to_string(found.size()) +
                               " tensors, expected energies and their derivatives");
    return {found[0], gives_forces_ ? found[1] : found[1].neg()};
  }

 private:
  torch::inductor::AOTIModelPackageLoader loader_;
  bool gives_forces_;
};

/// Neighbors within the cutoff of a few rows, as tensors and as the atoms they belong to.
struct Edges {
  std::vector<double> d;               ///< (count, 3)
  std::vector<std::int64_t> i, j;      ///< numbers within the call
  std::vector<std::int32_t> from, to;  ///< atoms
  std::vector<std::int64_t> types;     ///< of the rows, then one atom of every type
  std::int64_t count = 0;              ///< without padding

  void collect(const Neighborhood& where, std::int64_t begin, std::int64_t end, std::int64_t kinds);

 private:
  void pad(double length);
};

// Neighbors stand for their type alone: models see D, and i only for its own energy.
void Edges::collect(const Neighborhood& where, std::int64_t begin, std::int64_t end,
                    std::int64_t kinds) {
  const auto most = static_cast<std::size_t>(where.offsets[end] - where.offsets[begin]) + 2;
  if (from.size() < most) {
    d.resize(3 * most);
    for (auto* numbers : {&i, &j}) numbers->resize(most);
    for (auto* atoms : {&from, &to}) atoms->resize(most);
  }
  types.assign(where.types + begin, where.types + end);
  for (std::int64_t kind = 0; kind < std::max<std::int64_t>(kinds, 2); ++kind)
    types.push_back(kind < kinds ? kind : 0);
  const double square = where.cutoff * where.cutoff;
  count = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    const double* a = where.x + 3 * row;
    for (std::int64_t k = where.offsets[row]; k < where.offsets[row + 1]; ++k) {
      const std::int32_t other = where.neighbors[k];
      const double* b = where.x + 3 * std::int64_t{other};
      const double x = b[0] - a[0], y = b[1] - a[1], z = b[2] - a[2];
      if (x * x + y * y + z * z >= square) continue;
      double* out = d.data() + 3 * count;
      out[0] = x, out[1] = y, out[2] = z;
      i[count] = row - begin;
      j[count] = end - begin + where.types[other];
      from[count] = static_cast<std::int32_t>(row);
      to[count++] = other;
    }
  }
  pad(2 * where.cutoff);
}

// Compiled graphs take no arrays of length 0 or 1.
void Edges::pad(double length) {
  for (std::int64_t k = count; k < 2; ++k) {
    d[3 * k] = length;
    d[3 * k + 1] = d[3 * k + 2] = 0;
    i[k] = j[k] = 0;
  }
}

class TorchEngine final : public Engine {
 public:
  TorchEngine(const ModelBundle& bundle, std::string name, at::ScalarType type, at::Device device)
      : bundle_(bundle), name_(std::move(name)), type_(type), device_(device) {}

  void add(const std::string& path, std::unique_ptr<Network> network) {
    paths_.push_back(path);
    networks_.push_back(std::move(network));
  }

  std::string name() const override { return name_; }

  std::string label(std::int64_t member) const override {
    return "model file '" + paths_.at(static_cast<std::size_t>(member)) + "'";
  }

  void evaluate(std::int64_t member, const Neighborhood& where, Evaluation& result) override {
    named_torch(label(member), [&] {
      result.virial.fill(0);
      result.energies.assign(energies() ? where.owned : 0, 0.0);
      result.forces.assign(energies() ? 3 * where.all : 0, 0.0);
      result.values.assign(energies() ? 0 : bundle_.width() * where.owned, 0.0);
      result.virials.assign(energies() && where.virials ? 6 * where.all : 0, 0.0);
      for (std::int64_t begin = 0, end = 0; begin < where.owned; begin = end) {
        end = std::upper_bound(where.offsets + begin + 1, where.offsets + where.owned,
                               where.offsets[begin] + kEdges) -
              where.offsets;
        end = std::min(end, begin + kRows);
        edges_.collect(where, begin, end, bundle_.types);
        energies() ? add_energies(member, begin, end, result)
                   : add_values(member, begin, end, result);
      }
    });
  }

  void evaluate(std::int64_t member, const Particles& where, Evaluation& result) override {
    named_torch(label(member), [&] {
      prepare(where, result);
      const bool whole = bundle_.sees == Sees::configuration;
      for (std::int64_t begin = 0; begin < where.count || (whole && begin == 0);) {
        const std::int64_t end = whole ? where.count : std::min(where.count, begin + kRows);
        add_rows(member, where, begin, end, result);
        begin = std::max(end, begin + 1);
      }
    });
  }

 private:
  bool energies() const { return bundle_.gives == Gives::energy; }

  at::Tensor integers(std::vector<std::int64_t>& numbers, std::int64_t count) const {
    return at::from_blob(numbers.data(), {count}, at::kLong).to(device_);
  }

  at::Tensor reals(const double* data, const std::vector<std::int64_t>& shape) const {
    const at::Tensor given = at::from_blob(const_cast<double*>(data), shape, at::kDouble);
    return given.to(at::TensorOptions(device_).dtype(type_));
  }

  Tensors edge_tensors() {
    const std::int64_t count = std::max<std::int64_t>(edges_.count, 2);
    return {reals(edges_.d.data(), {count, 3}), integers(edges_.i, count),
            integers(edges_.j, count),
            integers(edges_.types, static_cast<std::int64_t>(edges_.types.size()))};
  }

  void add_energies(std::int64_t member, std::int64_t begin, std::int64_t end, Evaluation& result) {
    const Tensors inputs = edge_tensors();
    const auto [energies, push] = networks_[member]->descend(inputs, 0, end - begin);
    const at::Tensor found = checked(energies, "energies", type_, {inputs[3].size(0)});
    const at::Tensor pushes =
        checked(push, "derivatives of the energies", type_, {inputs[0].size(0), 3});
    copy_out(found.narrow(0, 0, end - begin), result.energies.data() + begin);
    type_ == at::kDouble ? scatter(pushes.const_data_ptr<double>(), result)
                         : scatter(pushes.const_data_ptr<float>(), result);
  }

  /// `push` is -dE/dD of every edge: the force on its end.
  template <class Real>
  void scatter(const Real* push, Evaluation& result) const {
    double* forces = result.forces.data();
    double virial[6] = {};
    for (std::int64_t e = 0; e < edges_.count; ++e) {
      const double p[3] = {push[3 * e], push[3 * e + 1], push[3 * e + 2]};
      const double* d = edges_.d.data() + 3 * e;
      double* from = forces + 3 * std::int64_t{edges_.from[e]};
      double* to = forces + 3 * std::int64_t{edges_.to[e]};
      for (int k = 0; k < 3; ++k) from[k] -= p[k];
      for (int k = 0; k < 3; ++k) to[k] += p[k];
      for (int k = 0; k < 3; ++k) virial[k] += d[k] * p[k];
      virial[3] += d[0] * p[1];
      virial[4] += d[0] * p[2];
      virial[5] += d[1] * p[2];
      if (!result.virials.empty()) share_virial(e, d, p, result);
    }
    for (int k = 0; k < 6; ++k) result.virial[k] += virial[k];
  }

  /// Half of an edge's virial to each of its ends.
  void share_virial(std::int64_t e, const double* d, const double* p, Evaluation& result) const {
    const double v[6] = {d[0] * p[0], d[1] * p[1], d[2] * p[2],
                         d[0] * p[1], d[0] * p[2], d[1] * p[2]};
    for (const std::int32_t atom : {edges_.from[e], edges_.to[e]})
      for (int k = 0; k < 6; ++k) result.virials[6 * std::int64_t{atom} + k] += 0.5 * v[k];
  }

  void add_values(std::int64_t member, std::int64_t begin, std::int64_t end, Evaluation& result) {
    const Tensors inputs = edge_tensors();
    const Tensors outputs = networks_[member]->run(inputs);
    const std::int64_t width = bundle_.width();
    const at::Tensor found = checked(single(outputs), "values", type_, {inputs[3].size(0), width});
    copy_out(found.narrow(0, 0, end - begin), result.values.data() + width * begin);
  }

  static at::Tensor single(const Tensors& outputs) {
    if (outputs.size() != 1)
      throw std::runtime_error("returns " + std::to_string(outputs.size()) +
                               " tensors where one is expected");
    return outputs[0];
  }

  void prepare(const Particles& where, Evaluation& result) const {
    const bool whole = bundle_.sees == Sees::configuration;
    const auto rows = static_cast<std::size_t>(3 * where.count);
    const bool forces = energies() || bundle_.gives == Gives::forces;
    const bool step = bundle_.gives == Gives::step, values = bundle_.gives == Gives::values;
    result.virial.fill(0);
    result.energies.assign(!energies() ? 0 : whole ? 1 : where.count, 0.0);
    result.forces.assign(forces ? rows : 0, 0.0);
    result.dx.assign(step ? rows : 0, 0.0);
    result.v.assign(step ? rows : 0, 0.0);
    result.memory.assign(bundle_.memory * (whole ? 1 : where.count), 0.0);
    result.values.assign(values ? bundle_.width() * (whole ? 1 : where.count) : 0, 0.0);
  }

  // A lone atom goes in twice: compiled graphs take no arrays of length 1.
  at::Tensor atoms(const double* data, std::int64_t begin, std::int64_t end, bool twice) const {
    const at::Tensor rows = reals(data + 3 * begin, {end - begin, 3});
    return twice ? at::cat({rows, rows}) : rows;
  }

  Tensors particle_tensors(const Particles& where, std::int64_t begin, std::int64_t end,
                           bool twice) {
    Tensors inputs;
    for (const std::string& input : bundle_.inputs) {
      if (input == "x") inputs.push_back(atoms(where.x, begin, end, twice));
      if (input == "v") inputs.push_back(atoms(where.v, begin, end, twice));
      if (input == "f") inputs.push_back(atoms(where.f, begin, end, twice));
      if (input == "time") inputs.push_back(reals(&where.time, {}));
      if (input == "cell") inputs.push_back(reals(where.cell.data(), {3, 3}));
      if (input != "types") continue;
      edges_.types.assign(where.types + begin, where.types + end);
      if (twice) edges_.types.push_back(edges_.types[0]);
      inputs.push_back(integers(edges_.types, static_cast<std::int64_t>(edges_.types.size())));
    }
    if (bundle_.memory > 0) inputs.push_back(memory(where, begin, end, twice));
    return inputs;
  }

  at::Tensor memory(const Particles& where, std::int64_t begin, std::int64_t end,
                    bool twice) const {
    const std::int64_t rows = bundle_.sees == Sees::configuration ? 1 : end - begin;
    const at::Tensor kept = reals(where.memory + bundle_.memory * begin, {rows, bundle_.memory});
    return twice ? at::cat({kept, kept}) : kept;
  }

  void take_step(const Tensors& outputs, std::int64_t rows, std::int64_t count, std::int64_t begin,
                 Evaluation& result) const {
    const bool keeps = bundle_.memory > 0;
    if (outputs.size() != (keeps ? 3 : 2))
      throw std::runtime_error("returns " + std::to_string(outputs.size()) +
                               " tensors, expected dx" + (keeps ? ", v and memory" : " and v"));
    take(outputs[0], "dx", {rows, 3}, count, result.dx.data() + 3 * begin);
    take(outputs[1], "v", {rows, 3}, count, result.v.data() + 3 * begin);
    const bool whole = bundle_.sees == Sees::configuration;
    if (keeps)
      take(outputs[2], "memory", {whole ? 1 : rows, bundle_.memory}, whole ? 1 : count,
           result.memory.data() + bundle_.memory * begin);
  }

  /// The first `count` rows of a tensor that must have this shape.
  void take(const at::Tensor& tensor, const char* what, const std::vector<std::int64_t>& shape,
            std::int64_t count, double* out) const {
    copy_out(checked(tensor, what, type_, shape).narrow(0, 0, count), out);
  }

  void add_rows(std::int64_t member, const Particles& where, std::int64_t begin, std::int64_t end,
                Evaluation& result) {
    const bool whole = bundle_.sees == Sees::configuration;
    const std::int64_t count = end - begin;
    const bool twice = !whole && count == 1;
    const std::int64_t rows = twice ? 2 : count;
    const Tensors inputs = particle_tensors(where, begin, end, twice);
    Network& network = *networks_[member];
    double* const forces = result.forces.data() + 3 * begin;
    if (energies()) {
      const auto place = std::find(bundle_.inputs.begin(), bundle_.inputs.end(), "x");
      const auto [found, push] =
          network.descend(inputs, static_cast<std::size_t>(place - bundle_.inputs.begin()), count);
      const at::Tensor energy = checked(found, whole ? "the energy" : "energies", type_,
                                        whole ? std::vector<std::int64_t>{} : std::vector{rows});
      copy_out(whole ? energy : energy.narrow(0, 0, count),
               result.energies.data() + (whole ? 0 : begin));
      return take(push, "forces", {rows, 3}, count, forces);
    }
    const Tensors outputs = network.run(inputs);
    if (bundle_.gives == Gives::forces)
      return take(single(outputs), "forces", {rows, 3}, count, forces);
    if (bundle_.gives == Gives::step) return take_step(outputs, rows, count, begin, result);
    const std::vector<std::int64_t> shape =
        whole ? bundle_.shape : std::vector{rows, bundle_.width()};
    const at::Tensor values = checked(single(outputs), "values", type_, shape);
    copy_out(whole ? values : values.narrow(0, 0, count),
             result.values.data() + bundle_.width() * begin);
  }

  ModelBundle bundle_;
  std::string name_;
  at::ScalarType type_;
  at::Device device_;
  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<Network>> networks_;
  Edges edges_;
};

std::string wanted_type(const ModelBundle& bundle, const EngineChoice& choice) {
  return choice.dtype.empty() ? bundle.dtype : choice.dtype;
}

at::ScalarType scalar_type(const std::string& name) {
  return name == "float32" ? at::kFloat : at::kDouble;
}

std::string wanted_device(const EngineChoice& choice) {
  return choice.device.empty() ? "cpu" : choice.device;
}

std::string device_obstacle(const EngineChoice& choice) {
  if (wanted_device(choice) == "cpu" || at::hasCUDA()) return "";
  return "device cuda: this plugin is built against torch " TORCH_VERSION
         ", which has no CUDA, or there is no GPU";
}

/// 0 baseline, 1 avx2, 2 avx512.
int machine_level() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

int level(const std::string& name) { return name == "avx512" ? 2 : name == "avx2" ? 1 : 0; }

std::string release(const std::string& version) { return version.substr(0, version.find('+')); }

}  // namespace

std::string torchscript_obstacle(const ModelBundle&, const EngineChoice& choice) {
  return device_obstacle(choice);
}

std::string compiled_obstacle(const ModelBundle& bundle, const EngineChoice& choice) {
  const CompiledParts& compiled = *bundle.compiled;
  const std::string again = "; make it anew: " + bundle.rebuild();
  if (release(compiled.torch) != release(TORCH_VERSION))
    return "its compiled files are for torch " + compiled.torch + ", this is " TORCH_VERSION +
           again;
  if (level(compiled.instruction_set) > machine_level())
    return "its compiled files need the instruction set " + compiled.instruction_set +
           ", which this machine lacks" + again;
  if (compiled.device != wanted_device(choice))
    return "its compiled files are for device " + compiled.device + again;
  if (wanted_type(bundle, choice) != bundle.dtype)
    return "its compiled files are of " + bundle.dtype + ", dtype " + choice.dtype +
           " needs engine torchscript";
  return device_obstacle(choice);
}

std::unique_ptr<Engine> make_torchscript_engine(const ModelBundle& bundle,
                                                const EngineChoice& choice) {
  at::set_num_threads(1);
  const at::ScalarType type = scalar_type(wanted_type(bundle, choice));
  const at::Device device(wanted_device(choice));
  const bool convert = wanted_type(bundle, choice) != bundle.dtype;
  auto engine = std::make_unique<TorchEngine>(bundle, "torchscript", type, device);
  for (const std::string& file : bundle.torchscript) {
    const std::string path = bundle.path(file);
    engine->add(path, named_torch("model file '" + path + "'", [&] {
                  return std::make_unique<ScriptNetwork>(path, type, convert, device);
                }));
  }
  return engine;
}

std::unique_ptr<Engine> make_compiled_engine(const ModelBundle& bundle,
                                             const EngineChoice& choice) {
  at::set_num_threads(1);
  const bool gives_forces = bundle.sees != Sees::neighbors;
  auto engine = std::make_unique<TorchEngine>(bundle, "compiled", scalar_type(bundle.dtype),
                                              at::Device(wanted_device(choice)));
  for (const std::string& file : bundle.compiled->files) {
    const std::string path = bundle.path(file);
    engine->add(path,
                named_torch("model file '" + path + "' (" + bundle.rebuild() + " makes it anew)",
                            [&] { return std::make_unique<CompiledNetwork>(path, gives_forces); }));
  }
  return engine;
}

}  // namespace mlmod
