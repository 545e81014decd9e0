#include "bundle_mobility.h"

#include <stdexcept>
#include <string>
#include <utility>

#include "bundle_units.h"
#include "mlcore/mobility.hpp"
#include "named_errors.h"

namespace mlmod {

namespace {

constexpr mlcore::Context kOneThread{.threads = 1};

mlcore::View<const double, 1> table(const std::vector<double>& values) {
  return {values.data(), {static_cast<std::int64_t>(values.size())}};
}

mlcore::View<const double, 2> rows(const std::vector<double>& values) {
  return {values.data(), {static_cast<std::int64_t>(values.size()) / 3, 3}};
}

mlcore::View<double, 2> rows(std::vector<double>& values) {
  return {values.data(), {static_cast<std::int64_t>(values.size()) / 3, 3}};
}

mlcore::MobilityModel model(const Bundle& bundle) {
  mlcore::MobilityModel model;
  model.kernel = bundle.kernel == "rpy" ? mlcore::Kernel::rpy : mlcore::Kernel::none;
  model.radius = bundle.radius;
  model.viscosity = bundle.viscosity;
  model.self = bundle.self_mobility;
  model.table.par = table(bundle.par);
  model.table.dpar = table(bundle.dpar);
  model.table.perp = table(bundle.perp);
  model.table.dperp = table(bundle.dperp);
  model.table.cutoff = bundle.cutoff;
  return model;
}

Bundle named_bundle(const std::string& folder) {
  try {
    return read_bundle(folder);
  } catch (const std::exception& error) {
    throw std::runtime_error("bundle " + std::string(error.what()));
  }
}

}  // namespace

BundleMobility::BundleMobility(const std::string& folder, const std::string& units)
    : bundle_(named_bundle(folder)) {
  check_units(folder, {bundle_.length_unit, bundle_.energy_unit, bundle_.time_unit}, units);
}

std::string BundleMobility::label() const { return "bundle '" + bundle_.folder + "'"; }

void BundleMobility::evaluate(const Configuration& configuration) { now_ = configuration; }

void BundleMobility::apply(const std::vector<double>& f, std::vector<double>& v) {
  v.resize(f.size());
  named(label(), [&] {
    mlcore::mobility_apply(kOneThread, model(bundle_), now_.cell, rows(std::as_const(now_.x)),
                           rows(f), rows(v));
  });
}

void BundleMobility::matrix(std::vector<double>& m) {
  const std::int64_t width = 3 * now_.size();
  m.resize(static_cast<std::size_t>(width * width));
  named(label(), [&] {
    mlcore::mobility_matrix(kOneThread, model(bundle_), now_.cell, rows(std::as_const(now_.x)),
                            {m.data(), {width, width}});
  });
}

bool BundleMobility::divergence(std::vector<double>& d) {
  d.resize(now_.x.size());
  named(label(), [&] {
    mlcore::mobility_divergence(kOneThread, model(bundle_), now_.cell, rows(std::as_const(now_.x)),
                                rows(d));
  });
  return true;
}

}  // namespace mlmod
