#include "models/native_engine.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "mlcore/mlp.hpp"
#include "mlcore/pair_potential.hpp"

namespace mlmod {

namespace {

constexpr mlcore::Context kOneThread{.threads = 1};

std::string folder_label(const ModelBundle& bundle) { return "bundle '" + bundle.folder + "'"; }

template <class Body>
void named(const std::string& who, Body&& body) {
  try {
    body();
  } catch (const std::exception& error) {
    throw std::runtime_error(who + ": " + error.what());
  }
}

mlcore::PairPotential pair_potential(const ModelBundle& bundle, std::int64_t member) {
  const NativeParts& native = *bundle.native;
  const std::string prefix = "m" + std::to_string(member) + ".";
  const auto view = [&](const char* name) -> mlcore::View<const double, 2> {
    const Tensor& tensor = native.tensors.at(prefix + name);
    return {
        tensor.values.data(),
        {static_cast<std::int64_t>(tensor.shape[0]), static_cast<std::int64_t>(tensor.shape[1])}};
  };
  return mlcore::PairPotential({.types = bundle.types,
                                .first = native.first,
                                .cutoff = bundle.cutoff,
                                .energy = view("energy"),
                                .slope = view("slope")});
}

/// A table of pair energies, or of the summands of a quantity of interest.
class PairTables final : public Engine {
 public:
  explicit PairTables(const ModelBundle& bundle)
      : label_(folder_label(bundle)), sums_(bundle.gives == Gives::values), types_(bundle.types) {
    named(label_, [&] {
      for (std::int64_t k = 0; k < bundle.members; ++k)
        tables_.push_back(pair_potential(bundle, k));
    });
  }

  std::string name() const override { return "native"; }
  std::string label(std::int64_t) const override { return label_; }

  bool complete() const override { return true; }

  void evaluate(std::int64_t member, const Neighborhood& where, Evaluation& result) override {
    result.virial.fill(0);
    result.energies.assign(sums_ ? 0 : where.owned, 0.0);
    result.values.assign(sums_ ? where.owned : 0, 0.0);
    result.forces.assign(sums_ ? 0 : 3 * where.owned, 0.0);
    if (where.owned == 0) return;
    mlcore::PairRows rows;
    rows.x = {where.x, {where.all, 3}};
    rows.offsets = {where.offsets, {where.owned + 1}};
    rows.columns = {where.neighbors, {where.offsets[where.owned]}};
    if (types_ > 1) rows.types = {where.types, {where.all}};
    mlcore::PairResults out;
    out.energies = {sums_ ? result.values.data() : result.energies.data(), {where.owned}};
    out.share = sums_ ? 1.0 : 0.5;
    if (!sums_) {
      out.forces = {result.forces.data(), {where.owned, 3}};
      out.virial = {result.virial.data(), {6}};
    }
    named(label_,
          [&] { tables_[static_cast<std::size_t>(member)].evaluate(kOneThread, rows, out); });
  }

  void evaluate(std::int64_t, const Particles&, Evaluation&) override {
    throw std::logic_error(label_ + ": a pair table needs neighbors");
  }

 private:
  std::string label_;
  bool sums_;
  std::int64_t types_;
  std::vector<mlcore::PairPotential> tables_;
};

mlcore::MlpActivation activation(const std::string& name) {
  using mlcore::MlpActivation;
  return name == "tanh"       ? MlpActivation::tanh
         : name == "silu"     ? MlpActivation::silu
         : name == "relu"     ? MlpActivation::relu
         : name == "softplus" ? MlpActivation::softplus
                              : MlpActivation::linear;
}

mlcore::Mlp<double> perceptron(const NativeParts& native, std::int64_t member) {
  const std::string prefix = "m" + std::to_string(member) + ".";
  const auto vector = [&](const std::string& name) -> mlcore::View<const double, 1> {
    const Tensor& tensor = native.tensors.at(prefix + name);
    return {tensor.values.data(), {static_cast<std::int64_t>(tensor.values.size())}};
  };
  mlcore::MlpWeights<double> weights;
  for (std::size_t layer = 0; layer < native.layers; ++layer) {
    const std::string number = std::to_string(layer);
    const Tensor& w = native.tensors.at(prefix + "w" + number);
    weights.layers.push_back(
        {.weight = {w.values.data(),
                    {static_cast<std::int64_t>(w.shape[0]), static_cast<std::int64_t>(w.shape[1])}},
         .bias = vector("b" + number)});
  }
  weights.activation = activation(native.activation);
  weights.in_shift = vector("in_shift");
  weights.in_scale = vector("in_scale");
  weights.out_shift = vector("out_shift");
  weights.out_scale = vector("out_scale");
  return mlcore::Mlp<double>(weights);
}

/// A perceptron on one row per atom, or on one row of a whole configuration.
class Perceptrons final : public Engine {
 public:
  explicit Perceptrons(const ModelBundle& bundle) : label_(folder_label(bundle)), bundle_(bundle) {
    named(label_, [&] {
      for (std::int64_t k = 0; k < bundle.members; ++k)
        networks_.push_back(perceptron(*bundle.native, k));
    });
  }

  std::string name() const override { return "native"; }
  std::string label(std::int64_t) const override { return label_; }

  void evaluate(std::int64_t, const Neighborhood&, Evaluation&) override {
    throw std::logic_error(label_ + ": a perceptron sees no neighbors");
  }

  void evaluate(std::int64_t member, const Particles& where, Evaluation& result) override {
    const bool whole = bundle_.sees == Sees::configuration;
    const std::int64_t rows = whole ? 1 : where.count, atoms = whole ? where.count : 1;
    const mlcore::Mlp<double>& network = networks_[static_cast<std::size_t>(member)];
    fill(where, rows, atoms, network.inputs());
    output_.resize(static_cast<std::size_t>(rows * network.outputs()));
    named(label_, [&] {
      network.forward(kOneThread, {input_.data(), {rows, network.inputs()}},
                      {output_.data(), {rows, network.outputs()}});
    });
    give(rows, atoms, result);
  }

 private:
  /// Blocks x, v, f (3 numbers an atom), types (one-hot), time, cell of `atoms`
  /// atoms in each row.
  void fill(const Particles& where, std::int64_t rows, std::int64_t atoms, std::int64_t width) {
    input_.assign(static_cast<std::size_t>(rows * width), 0.0);
    std::int64_t column = 0;
    const auto put = [&](const double* data, std::int64_t count, bool same) {
      for (std::int64_t row = 0; row < rows; ++row)
        std::copy_n(data + (same ? 0 : row * count), count, input_.data() + row * width + column);
      column += count;
    };
    for (const std::string& input : bundle_.inputs) {
      if (input == "x") put(where.x, 3 * atoms, false);
      if (input == "v") put(where.v, 3 * atoms, false);
      if (input == "f") put(where.f, 3 * atoms, false);
      if (input == "time") put(&where.time, 1, true);
      if (input == "cell") put(where.cell.data(), 9, true);
      if (input != "types") continue;
      for (std::int64_t i = 0; i < rows * atoms; ++i)
        input_[static_cast<std::size_t>(i / atoms * width + column + i % atoms * bundle_.types +
                                        where.types[i])] = 1;
      column += bundle_.types * atoms;
    }
  }

  void give(std::int64_t rows, std::int64_t atoms, Evaluation& result) const {
    const std::int64_t block = 3 * atoms;
    const auto take = [&](std::vector<double>& out, std::int64_t width, std::int64_t first,
                          std::int64_t count) {
      out.resize(static_cast<std::size_t>(rows * count));
      for (std::int64_t row = 0; row < rows; ++row)
        std::copy_n(output_.data() + row * width + first, count, out.data() + row * count);
    };
    if (bundle_.gives == Gives::forces) take(result.forces, block, 0, block);
    if (bundle_.gives == Gives::values) take(result.values, bundle_.width(), 0, bundle_.width());
    if (bundle_.gives != Gives::step) return;
    take(result.dx, 2 * block, 0, block);
    take(result.v, 2 * block, block, block);
  }

  std::string label_;
  ModelBundle bundle_;
  std::vector<mlcore::Mlp<double>> networks_;
  std::vector<double> input_, output_;
};

}  // namespace

std::string native_obstacle(const ModelBundle&, const EngineChoice& choice) {
  if (choice.device == "cuda")
    return "its native parts run on the CPU; device cuda needs engine "
           "torchscript or compiled";
  if (choice.dtype == "float32")
    return "its native parts run in float64; dtype float32 needs engine "
           "torchscript or compiled";
  return "";
}

std::unique_ptr<Engine> make_native_engine(const ModelBundle& bundle) {
  if (bundle.native->kind == "pair_table") return std::make_unique<PairTables>(bundle);
  return std::make_unique<Perceptrons>(bundle);
}

}  // namespace mlmod
