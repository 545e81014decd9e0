#include "models/native_engine.h"

#include <stdexcept>
#include <utility>

#include "mlcore/mlp.hpp"
#include "mlcore/pair_potential.hpp"
#include "models/lstm_engine.h"
#include "models/native_rows.h"
#include "named_errors.h"

namespace mlmod {

namespace {

constexpr mlcore::Context kOneThread{.threads = 1};

std::string folder_label(const ModelBundle& bundle) { return "bundle '" + bundle.folder + "'"; }

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
    const mlcore::PairPotential& table = tables_[static_cast<std::size_t>(member)];
    named(label_, [&] { table.evaluate(kOneThread, rows, out); });
    if (where.virials && !sums_) named(label_, [&] { add_virials(table, where, result); });
  }

  void evaluate(std::int64_t, const Particles&, Evaluation&) override {
    throw std::logic_error(label_ + ": a pair table needs neighbors");
  }

 private:
  /// The core gives the virial of all its rows, so each row is a call of its own.
  void add_virials(const mlcore::PairPotential& table, const Neighborhood& where,
                   Evaluation& result) const {
    result.virials.assign(static_cast<std::size_t>(6 * where.owned), 0.0);
    std::vector<double> vectors;
    std::vector<std::int32_t> types, columns;
    for (std::int64_t i = 0; i < where.owned; ++i) {
      const std::int32_t* const begin = where.neighbors + where.offsets[i];
      const std::int64_t count = where.offsets[i + 1] - where.offsets[i];
      if (count == 0) continue;
      vectors.clear();
      columns.clear();
      types.assign(1, where.types[i]);
      for (std::int64_t k = 0; k < count; ++k) {
        for (int c = 0; c < 3; ++c)
          vectors.push_back(where.x[3 * std::int64_t{begin[k]} + c] - where.x[3 * i + c]);
        columns.push_back(static_cast<std::int32_t>(k + 1));
        types.push_back(where.types[begin[k]]);
      }
      const std::int64_t offsets[2] = {0, count};
      mlcore::PairRows rows;
      rows.offsets = {offsets, {2}};
      rows.columns = {columns.data(), {count}};
      rows.vectors = {vectors.data(), {count, 3}};
      if (types_ > 1) rows.types = {types.data(), {count + 1}};
      mlcore::PairResults out;
      out.virial = {result.virials.data() + 6 * i, {6}};
      table.evaluate(kOneThread, rows, out);
    }
  }

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
  explicit Perceptrons(const ModelBundle& bundle) : label_(folder_label(bundle)), rows_(bundle) {
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
    const mlcore::Mlp<double>& network = networks_[static_cast<std::size_t>(member)];
    const std::int64_t rows = rows_.fill(where, network.inputs(), input_);
    output_.resize(static_cast<std::size_t>(rows * network.outputs()));
    named(label_, [&] {
      network.forward(kOneThread, {input_.data(), {rows, network.inputs()}},
                      {output_.data(), {rows, network.outputs()}});
    });
    rows_.give(where, output_, result);
  }

 private:
  std::string label_;
  NativeRows rows_;
  std::vector<mlcore::Mlp<double>> networks_;
  std::vector<double> input_, output_;
};

}  // namespace

std::string native_obstacle(const ModelBundle& bundle, const EngineChoice& choice) {
  if (choice.device == "cuda")
    return "its native parts run on the CPU; device cuda needs engine "
           "torchscript or compiled";
  if (choice.dtype == "float32" && bundle.native->kind != "lstm")
    return "its native parts run in float64; dtype float32 needs engine "
           "torchscript or compiled";
  return "";
}

std::unique_ptr<Engine> make_native_engine(const ModelBundle& bundle, const EngineChoice& choice) {
  if (bundle.native->kind == "lstm") return make_lstm_engine(bundle, choice.dtype == "float32");
  if (bundle.native->kind == "pair_table") return std::make_unique<PairTables>(bundle);
  return std::make_unique<Perceptrons>(bundle);
}

}  // namespace mlmod
