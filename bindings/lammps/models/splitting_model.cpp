#include "models/splitting_model.h"

#include <cmath>
#include <exception>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "bundle_file.h"
#include "named_errors.h"

namespace mlmod {

namespace {

constexpr double kSame = 1e-6;  // relative, of timesteps and masses

bool differ(double found, double wanted) { return std::fabs(found - wanted) > kSame * wanted; }

void check_words(const BundleWords& words) {
  const auto only = [&](const char* word, const std::string& found, const std::string& known) {
    if (!found.empty() && found != known)
      throw std::runtime_error("keyword '" + std::string(word) + "': the splitting of bundle '" +
                               words.bundle + "' runs with " + known + " alone, found '" + found +
                               "'");
  };
  only("engine", words.choice.engine, "native");
  only("dtype", words.choice.dtype, "float64");
  only("device", words.choice.device, "cpu");
}

mlcore::PairSplitting step_of(const ModelBundle& bundle, std::size_t halving) {
  const NativeParts& parts = *bundle.native;
  const Tensor& drifts = parts.tensors.at("m0.drifts");
  const Tensor& masses = parts.tensors.at("m0.masses");
  const Tensor& tables = parts.tensors.at("m0.tables" + std::to_string(halving));
  mlcore::SplittingTables step;
  step.step = std::ldexp(bundle.timestep, -static_cast<int>(halving));
  step.drifts = {drifts.values.data(), {static_cast<std::int64_t>(drifts.shape[0])}};
  step.masses = {masses.values.data(), {static_cast<std::int64_t>(masses.shape[0])}};
  mlcore::View<const double, 4>::Shape shape;
  for (std::size_t axis = 0; axis < 4; ++axis)
    shape[axis] = static_cast<std::int64_t>(tables.shape[axis]);
  step.coefficients = {tables.values.data(), shape};
  step.u_lo = parts.u_lo;
  step.u_hi = parts.u_hi;
  return mlcore::PairSplitting(step);
}

}  // namespace

bool holds_splitting(const std::string& folder) {
  try {
    const BundleFile file(folder);
    return file.manifest().at("engines").at("native").at("kind") == "splitting";
  } catch (const std::exception&) {
    return false;
  }
}

SplittingModel::SplittingModel(const BundleWords& words, const std::string& units)
    : bundle_(read_model_bundle(words.bundle, words.mode)) {
  check_words(words);
  check_units(bundle_, units);
  named(name() + ", " + BundleFile::weights, [&] {
    for (std::size_t halving = 0; halving <= bundle_.native->halvings; ++halving)
      steps_.push_back(step_of(bundle_, halving));
  });
}

void SplittingModel::check_timestep(double dt) const {
  if (!differ(dt, bundle_.timestep)) return;
  std::ostringstream text;
  text << name() << ": its step takes a time of " << bundle_.timestep
       << " (manifest: model.timestep), this run has timestep " << dt;
  throw std::runtime_error(text.str());
}

void SplittingModel::check_atom(std::int64_t id, int type, double mass) const {
  std::ostringstream text;
  text << name() << ": atom " << id << " has type " << type;
  if (type < 1 || type > bundle_.types) {
    text << ", the model knows types 1 to " << bundle_.types << " (manifest: model.types)";
    throw std::runtime_error(text.str());
  }
  const double wanted = masses()[static_cast<std::size_t>(type - 1)];
  if (!differ(mass, wanted)) return;
  text << " and mass " << mass << ", the bundle was made for mass " << wanted << " of that type";
  throw std::runtime_error(text.str());
}

}  // namespace mlmod
