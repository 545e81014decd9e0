#include "models/native_engine.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

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

}  // namespace

std::string native_obstacle(const ModelBundle&, const EngineChoice& choice) {
  if (choice.device == "cuda")
    return "its native parts run on the CPU; device cuda needs engine torchscript or compiled";
  if (choice.dtype == "float32")
    return "its native parts run in float64; dtype float32 needs engine torchscript or compiled";
  return "";
}

std::unique_ptr<Engine> make_native_engine(const ModelBundle& bundle) {
  if (bundle.native->kind == "pair_table") return std::make_unique<PairTables>(bundle);
  throw std::runtime_error(folder_label(bundle) + ": unknown native kind " + bundle.native->kind);
}

}  // namespace mlmod
