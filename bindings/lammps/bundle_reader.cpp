#include "bundle_reader.h"

#include <stdexcept>

#include "bundle_file.h"

namespace mlmod {

namespace {

using nlohmann::json;

void read_units(const BundleFile& file, Bundle& bundle) {
  const json& units = file.field(file.manifest(), "manifest", "units");
  bundle.length_unit = file.text(units, "units", "length");
  bundle.energy_unit = file.text(units, "units", "energy");
  bundle.time_unit = file.text(units, "units", "time");
}

void read_background(const BundleFile& file, const json& mobility, Bundle& bundle) {
  const json& background = file.field(mobility, "mobility", "background");
  const json& kernel = file.field(background, "mobility.background", "kernel");
  if (kernel != "none" && kernel != "rpy")
    file.fail("field mobility.background.kernel must be \"none\" or \"rpy\"");
  bundle.kernel = kernel.get<std::string>();
  if (bundle.kernel == "none") return;
  bundle.radius = file.positive(background, "mobility.background", "radius");
  bundle.viscosity = file.positive(background, "mobility.background", "viscosity");
}

void read_tables(BundleFile& file, std::size_t knots, Bundle& bundle) {
  file.verify();
  auto tensors = file.tensors({"par", "dpar", "perp", "dperp"});
  for (const auto& [name, tensor] : tensors) {
    const std::string label = "'" + file.path(BundleFile::weights) + "': tensor '" + name + "'";
    if (tensor.shape.size() != 1)
      throw std::runtime_error(label + ": shape must have one dimension");
    if (tensor.values.size() != knots)
      throw std::runtime_error(label + " has " + std::to_string(tensor.values.size()) +
                               " values, the manifest says knots = " + std::to_string(knots));
  }
  bundle.par = std::move(tensors["par"].values);
  bundle.dpar = std::move(tensors["dpar"].values);
  bundle.perp = std::move(tensors["perp"].values);
  bundle.dperp = std::move(tensors["dperp"].values);
}

}  // namespace

Bundle read_bundle(const std::string& folder) {
  BundleFile file(folder);
  if (file.kind() != "mobility") file.fail("field kind must be \"mobility\"");
  Bundle bundle;
  bundle.folder = folder;
  read_units(file, bundle);
  const json& mobility = file.field(file.manifest(), "manifest", "mobility");
  read_background(file, mobility, bundle);
  bundle.self_mobility = file.number(mobility, "mobility", "self_mobility");
  bundle.cutoff = file.positive(mobility, "mobility", "cutoff");
  read_tables(file, file.natural(mobility, "mobility", "knots", 2), bundle);
  return bundle;
}

}  // namespace mlmod
