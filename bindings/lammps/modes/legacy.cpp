#include "legacy.h"

#include <map>
#include <sstream>
#include <utility>

#include "analytic_mobility.h"
#include "bundle_mobility.h"
#include "command_words.h"
#include "legacy_dynamics.h"
#include "legacy_force.h"
#include "legacy_qoi.h"
#include "mobility_mode.h"
#include "pair_models.h"
#include "params_xml.h"
#include "whole_model.h"

namespace mlmod {

namespace {

struct Request {
  const ParameterFile& file;
  const CommandWords& words;
  const Surroundings& around;
};

using Maker = std::unique_ptr<Mode> (*)(const Request&);

std::unique_ptr<MobilitySource> pair_source(const Request& request) {
  const auto& [file, words, around] = request;
  if (file.given("bundle")) {
    for (const char* tag : {"M_ii_filename", "M_ij_filename"})
      if (file.given(tag))
        file.fail("give either <bundle> or <" + std::string(tag) + ">, not both");
    return std::make_unique<BundleMobility>(file.text("bundle"), around.units);
  }
  const std::string m_ii = file.text("M_ii_filename"), m_ij = file.text("M_ij_filename");
  if (!around.cell.is_open())
    around.warn(
        "TorchScript pair models see nearest images only; a long-ranged mobility is then not "
        "positive definite in general (a bundle with background rpy adds the periodic part)");
  return std::make_unique<PairModels>(
      m_ii, m_ij, around.cell, std::vector<double>(around.origin.begin(), around.origin.end()),
      around.warn);
}

MobilityParameters stochastic_parameters(const ParameterFile& file) {
  MobilityParameters parameters{.source = "parameter file '" + file.path() + "'"};
  parameters.kbt = file.number("KBT");
  if (parameters.kbt < 0) file.fail("<KBT> must not be negative");
  parameters.stochastic = file.flag("flag_stochastic");
  parameters.drift = file.flag("flag_thm_drift");
  const bool exact_divergence = file.given("bundle");
  if (!exact_divergence || file.given("delta")) parameters.delta = file.number("delta");
  if (!exact_divergence && parameters.has_drift() && !(parameters.delta > 0))
    file.fail(
        "<delta> must be positive when <flag_thm_drift> is 1: it is the displacement of the "
        "finite difference");
  return parameters;
}

std::unique_ptr<Mode> mobility(const Request& request, MobilityParameters parameters,
                               std::unique_ptr<MobilitySource> source, bool two_stages) {
  const CommandWords& words = request.words;
  auto stepper = std::make_unique<MobilityStepper>(std::move(parameters), std::move(source),
                                                   noise_key(words.seed, request.around.fix_id),
                                                   words.repair, request.around.warn);
  return std::make_unique<MobilityMode>(std::move(stepper),
                                        MobilityChoices{.two_stages = two_stages,
                                                        .legacy = words.legacy,
                                                        .seed = words.seed,
                                                        .seed_given = words.seed_given},
                                        request.around.warn);
}

std::unique_ptr<Mode> analytic(const Request& request) {
  const ParameterFile& file = request.file;
  const AnalyticMobility::Constants constants{.viscosity = file.positive("eta"),
                                              .radius = file.positive("a"),
                                              .softening = file.number("epsilon"),
                                              .without_pi = request.words.legacy};
  if (constants.softening < 0) file.fail("<epsilon> must not be negative");
  return mobility(request, {}, std::make_unique<AnalyticMobility>(constants), false);
}

std::unique_ptr<Mode> deterministic_pair(const Request& request) {
  return mobility(request, {}, pair_source(request), false);
}

std::unique_ptr<Mode> stochastic_pair(const Request& request) {
  auto parameters = stochastic_parameters(request.file);
  return mobility(request, std::move(parameters), pair_source(request), true);
}

std::unique_ptr<Mode> stochastic_whole(const Request& request) {
  auto parameters = stochastic_parameters(request.file);
  auto source = std::make_unique<WholeModel>(request.file.text("M_filename"), request.around.warn);
  return mobility(request, std::move(parameters), std::move(source), true);
}

std::set<std::string> hook_words(const ParameterFile& file) {
  return file.words("mask_fix", {"INITIAL_INTEGRATE", "FINAL_INTEGRATE", "POST_FORCE"});
}

InputMask input_mask(const ParameterFile& file) {
  return InputMask::from(file.words("mask_input", InputMask::names()));
}

LegacyForce::Choices force_choices(const Request& request) {
  const ParameterFile& file = request.file;
  for (const char* tag : {"base_name", "base_dir"}) file.text(tag);
  hook_words(file);
  return {
      .path = file.text("F_filename"), .mask = input_mask(file), .at_setup = !request.words.legacy};
}

std::unique_ptr<Mode> whole_force(const Request& request) {
  return std::make_unique<WholeForce>(force_choices(request), request.words.legacy);
}

std::unique_ptr<Mode> atom_force(const Request& request) {
  return std::make_unique<AtomForce>(force_choices(request), request.around);
}

std::unique_ptr<Mode> pair_force(const Request& request) {
  const LegacyForce::Choices choices = force_choices(request);
  if (request.file.given("cutoff"))
    return std::make_unique<NearPairForce>(choices, request.file.positive("cutoff"),
                                           request.around);
  return std::make_unique<PairForce>(choices, request.words.legacy, request.around);
}

std::unique_ptr<Mode> dynamics(const Request& request) {
  const ParameterFile& file = request.file;
  file.text("base_name");
  const std::set<std::string> hooks = hook_words(file);
  const LegacyDynamics::Choices choices{.before = file.text("dyn1_filename"),
                                        .after = file.text("dyn2_filename"),
                                        .use_before = hooks.contains("INITIAL_INTEGRATE"),
                                        .use_after = hooks.contains("FINAL_INTEGRATE"),
                                        .mask = input_mask(file),
                                        .legacy = request.words.legacy};
  if (!choices.use_before && !choices.use_after)
    file.fail("<mask_fix> must hold INITIAL_INTEGRATE or FINAL_INTEGRATE, found '" +
              file.text("mask_fix") + "'");
  return std::make_unique<LegacyDynamics>(choices);
}

std::unique_ptr<Mode> values(const Request& request) {
  const ParameterFile& file = request.file;
  const std::set<std::string> words = hook_words(file);
  unsigned hooks = 0;
  if (words.contains("INITIAL_INTEGRATE")) hooks |= kInitialIntegrate;
  if (words.contains("FINAL_INTEGRATE")) hooks |= kFinalIntegrate;
  if (words.contains("POST_FORCE")) hooks |= kPostForce;
  return std::make_unique<LegacyValues>(
      LegacyValues::Choices{.path = file.text("qoi_filename"),
                            .base_name = file.text("base_name"),
                            .base_folder = file.text("base_dir", "./mlmod"),
                            .hooks = hooks,
                            .mask = input_mask(file),
                            .every = file.whole("skip_step", 1, 1),
                            .legacy = request.words.legacy,
                            .writes = request.around.rank == 0});
}

const std::map<std::string, Maker>& makers() {
  static const std::map<std::string, Maker> all{
      {"dX_MF", analytic},
      {"dX_MF_ML1", deterministic_pair},
      {"dX_MF_Q1_ML1_Pair", stochastic_pair},
      {"dX_MF_Q1_ML1_N2N", stochastic_whole},
      {"F_ML1", whole_force},
      {"F_X_ML1", atom_force},
      {"F_Pair_ML1", pair_force},
      {"Dyn_ML1", dynamics},
      {"QoI_ML1", values},
  };
  return all;
}

[[noreturn]] void unknown_mode(const ParameterFile& file) {
  std::string names;
  for (const auto& [name, maker] : makers()) names += (names.empty() ? "" : ", ") + name;
  file.fail("<model_data> type '" + file.type() + "' is unknown (available: " + names + ")");
}

void report(const Request& request) {
  const auto& [file, words, around] = request;
  if (words.verbose == 0) return;
  std::ostringstream text;
  text << "fix mlmod " << around.fix_id << ": " << file.type() << " from " << file.path()
       << ", seed " << words.seed << ", legacy " << (words.legacy ? "yes" : "no") << ", psd "
       << (words.repair ? "repair" : "error") << "\n";
  if (words.verbose > 1)
    for (const auto& [tag, value] : file.values()) text << "  " << tag << " = " << value << "\n";
  around.log(text.str());
}

}  // namespace

std::unique_ptr<Mode> make_mlmod_mode(const std::vector<std::string>& words,
                                      const Surroundings& around) {
  const CommandWords command = parse_words(words);
  const ParameterFile file(command.file);
  const auto maker = makers().find(file.type());
  if (maker == makers().end()) unknown_mode(file);
  const Request request{file, command, around};
  auto mode = maker->second(request);
  mode->verbosity = command.verbose;
  report(request);
  return mode;
}

}  // namespace mlmod
