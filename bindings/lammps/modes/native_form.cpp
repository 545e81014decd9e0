#include "modes/native_form.h"

#include <stdexcept>
#include <utility>

#include "modes/bundle_force.h"
#include "modes/bundle_mobility.h"
#include "modes/bundle_step.h"
#include "modes/bundle_values.h"
#include "modes/bundle_words.h"
#include "modes/local_mobility.h"
#include "modes/mobility_mode.h"
#include "modes/record.h"

namespace mlmod {

namespace {

std::function<double()> thermal_energy(const BundleWords& words, const Surroundings& around) {
  if (words.temperature_variable.empty()) return {};
  return [name = words.temperature_variable, around] {
    const double temperature = around.variable(name);
    if (!(temperature >= 0) || temperature > 1e300)
      throw std::runtime_error("keyword 'temp': variable '" + name + "' is " +
                               std::to_string(temperature) +
                               ", it must be a finite number and not negative");
    return around.boltzmann * temperature;
  };
}

void tell_mobility(const BundleWords& words, const Surroundings& around, const char* scheme) {
  if (words.verbose == 0) return;
  const std::string& variable = words.temperature_variable;
  around.log("fix mlcore " + around.fix_id + ": mobility from bundle " + words.bundle + ", " +
             scheme + ", temp " +
             (variable.empty() ? std::to_string(words.temperature) : "v_" + variable) + ", seed " +
             std::to_string(words.seed) + ", psd " + (words.repair ? "repair" : "error") + "\n");
}

std::unique_ptr<Mode> mobility(const BundleWords& words, const Surroundings& around) {
  auto source = std::make_unique<BundleMobility>(words.bundle, around.units);
  const bool warm = words.temperature > 0 || !words.temperature_variable.empty();
  const bool midpoint = words.midpoint.value_or(warm);
  if (!warm && !midpoint && source->bundle().kernel == "none") {
    tell_mobility(words, around, "integrator em, from neighbors");
    return std::make_unique<LocalMobility>(words.bundle, around.units);
  }
  tell_mobility(words, around, midpoint ? "integrator midpoint" : "integrator em");
  auto stepper = std::make_unique<MobilityStepper>(
      MobilityParameters{.source = "bundle '" + words.bundle + "'",
                         .kbt = around.boltzmann * words.temperature,
                         .stochastic = true,
                         .drift = true},
      std::move(source), noise_key(words.seed, around.fix_id), words.repair, around.warn);
  return std::make_unique<MobilityMode>(std::move(stepper),
                                        MobilityChoices{.two_stages = midpoint,
                                                        .noise = warm,
                                                        .seed = words.seed,
                                                        .seed_given = words.seed_given,
                                                        .kbt = thermal_energy(words, around)},
                                        around.warn);
}

std::unique_ptr<Mode> of_bundle(const BundleWords& words, const Surroundings& around) {
  if (words.mode == "mobility") return mobility(words, around);
  if (words.mode == "force") return std::make_unique<BundleForce>(words, around);
  if (words.mode == "dynamics") return std::make_unique<BundleStep>(words, around);
  return std::make_unique<BundleValues>(words, around);
}

}  // namespace

std::unique_ptr<Mode> make_native_mode(const std::vector<std::string>& words,
                                       const Surroundings& around) {
  if (!words.empty() && words[0] == "record")
    return std::make_unique<Record>(parse_record_words(words), around);
  const BundleWords parsed = parse_bundle_words(words);
  std::unique_ptr<Mode> mode = of_bundle(parsed, around);
  mode->verbosity = parsed.verbose;
  return mode;
}

}  // namespace mlmod
