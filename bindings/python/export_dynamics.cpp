#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "export.hpp"
#include "mlcore/dynamics.hpp"
#include "mlcore/reference/dynamics.hpp"
#include "mobility_model.hpp"
#include "noise_policy.hpp"

namespace mlcore::python {
namespace {

/// A ForceField and the memory its views look into.
struct OwnedForceField {
  ForceField field;
  Array<double> constant, centres;
  std::vector<PairForce> pairs;
};

/// kind, strength, length, cutoff.
using PairArguments = std::tuple<std::string, double, double, double>;

PairForce pair_force(const PairArguments& arguments) {
  const auto& [kind, strength, length, cutoff] = arguments;
  MLCORE_CHECK(kind == "yukawa" || kind == "lennard_jones",
               "kind must be \"yukawa\" or \"lennard_jones\", got \"", kind, "\"");
  return {kind == "yukawa" ? PairForce::Kind::yukawa : PairForce::Kind::lennard_jones, strength,
          length, cutoff};
}

View<const double, 2> optional_rows(const char* name, const Array<double>& array) {
  if (array.size() == 0) return {};
  return input_view<double, 2>(name, array, {-1, 3});
}

std::unique_ptr<OwnedForceField> make_field(const std::optional<Array<double>>& constant,
                                            double stiffness,
                                            const std::optional<Array<double>>& centres,
                                            const std::vector<PairArguments>& pairs) {
  auto owned = std::make_unique<OwnedForceField>();
  owned->constant = constant.value_or(Array<double>());
  owned->centres = centres.value_or(Array<double>());
  for (const PairArguments& pair : pairs) owned->pairs.push_back(pair_force(pair));
  owned->field.constant = optional_rows("force", owned->constant);
  owned->field.stiffness = stiffness;
  owned->field.centres = optional_rows("centre", owned->centres);
  owned->field.pairs = {owned->pairs.data(), {static_cast<std::int64_t>(owned->pairs.size())}};
  return owned;
}

double evaluate(const OwnedForceField& owned, const Array<double>& cell,
                const std::array<bool, 3>& pbc, const Array<double>& x, py::array F, bool reference,
                int threads) {
  const auto xs = input_view<double, 2>("x", x, {-1, 3});
  const auto out = output_view<double, 2>("out", F, xs.shape);
  const Cell box = to_cell(cell, pbc);
  py::gil_scoped_release release;
  if (reference) return reference::force_field(owned.field, box, xs, out);
  return force_field(Context{threads}, owned.field, box, xs, out);
}

Scheme scheme_named(const std::string& name) {
  if (name == "euler_maruyama") return Scheme::euler_maruyama;
  MLCORE_CHECK(name == "midpoint", "scheme must be \"euler_maruyama\" or \"midpoint\", got \"",
               name, "\"");
  return Scheme::midpoint;
}

BrownianOptions make_options(double dt, double kT, std::int64_t every, bool drift,
                             const std::string& scheme, std::uint64_t seed, std::uint32_t stream,
                             const std::string& psd, double max_displacement) {
  BrownianOptions options;
  options.dt = dt;
  options.kT = kT;
  options.every = every;
  options.drift = drift;
  options.scheme = scheme_named(scheme);
  options.seed = seed;
  options.stream = stream;
  options.psd = indefinite_named(psd);
  options.max_displacement = max_displacement;
  return options;
}

void run(const OwnedMobilityModel& mobility, const Array<double>& cell,
         const std::array<bool, 3>& pbc, const OwnedForceField& owned,
         const BrownianOptions& options, py::array frames, std::int64_t first, std::int64_t last,
         bool reference, int threads) {
  MLCORE_CHECK(frames.ndim() == 4, "frames must have 4 dimensions, got the shape ",
               shape_text(frames));
  const auto out = output_view<double, 4>("frames", frames,
                                          {frames.shape(0), frames.shape(1), frames.shape(2), 3});
  const Cell box = to_cell(cell, pbc);
  py::gil_scoped_release release;
  if (!reference) {
    return brownian(Context{threads}, mobility.model, box, owned.field, options, out, first, last);
  }
  for (std::int64_t r = 0; r < out.shape[0]; ++r) {
    BrownianOptions one = options;
    one.stream += static_cast<std::uint32_t>(r);
    reference::brownian(mobility.model, box, owned.field, one, out[r]);
  }
}

}  // namespace

void export_dynamics(py::module_& m) {
  py::class_<OwnedForceField>(m, "ForceField")
      .def(py::init(&make_field), py::kw_only(), py::arg("constant") = py::none(),
           py::arg("stiffness") = 0.0, py::arg("centres") = py::none(),
           py::arg("pairs") = std::vector<PairArguments>());
  py::class_<BrownianOptions>(m, "BrownianOptions")
      .def(py::init(&make_options), py::kw_only(), py::arg("dt"), py::arg("kT"), py::arg("every"),
           py::arg("drift"), py::arg("scheme"), py::arg("seed"), py::arg("stream"), py::arg("psd"),
           py::arg("max_displacement"));
  m.def("force_field", &evaluate, py::arg("field"), py::arg("cell"), py::arg("pbc"), py::arg("x"),
        py::arg("out").noconvert(), py::arg("reference") = false, py::arg("num_threads") = 0);
  m.def("brownian", &run, py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("field"),
        py::arg("options"), py::arg("frames").noconvert(), py::arg("first"), py::arg("last"),
        py::arg("reference") = false, py::arg("num_threads") = 0);
}

}  // namespace mlcore::python
