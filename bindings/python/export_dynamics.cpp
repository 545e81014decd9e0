#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "device_arrays.hpp"
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
                const std::array<bool, 3>& pbc, const py::object& x, const py::object& F,
                bool reference, int threads, std::uintptr_t stream) {
  Array<double> holder;
  const auto xs = any_input<double, 2>("x", x, holder, {-1, 3});
  const auto out = any_output<double, 2>("out", F, xs.shape);
  const Cell box = to_cell(cell, pbc);
  py::gil_scoped_release release;
  if (reference) return reference::force_field(owned.field, box, xs, out);
  return force_field({threads, reinterpret_cast<void*>(stream)}, owned.field, box, xs, out);
}

Scheme scheme_named(const std::string& name) {
  if (name == "euler_maruyama") return Scheme::euler_maruyama;
  MLCORE_CHECK(name == "midpoint", "scheme must be \"euler_maruyama\" or \"midpoint\", got \"",
               name, "\"");
  return Scheme::midpoint;
}

BrownianOptions make_options(double dt, double kT, std::int64_t every, bool drift,
                             const std::string& scheme, std::uint64_t seed, std::uint32_t stream,
                             const std::string& psd, double max_displacement,
                             double random_finite_difference, const std::string& noise,
                             double tolerance) {
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
  options.random_finite_difference = random_finite_difference;
  options.noise = method_named("noise", noise);
  options.noise_tolerance = tolerance;
  return options;
}

std::array<std::int64_t, 4> shape4(const char* name, const py::object& array) {
  const py::tuple shape = array.attr("shape");
  MLCORE_CHECK(shape.size() == 4, name, " must have the shape (R, T, n, d)");
  return {shape[0].cast<std::int64_t>(), shape[1].cast<std::int64_t>(),
          shape[2].cast<std::int64_t>(), shape[3].cast<std::int64_t>()};
}

void run(const OwnedMobilityModel& mobility, const Array<double>& cell,
         const std::array<bool, 3>& pbc, const OwnedForceField& owned,
         const BrownianOptions& options, const py::object& frames, std::int64_t first,
         std::int64_t last, bool reference, int threads, std::uintptr_t stream) {
  const auto out = any_output<double, 4>("frames", frames, shape4("frames", frames));
  const Cell box = to_cell(cell, pbc);
  py::gil_scoped_release release;
  if (!reference) {
    return brownian({threads, reinterpret_cast<void*>(stream)}, mobility.model, box, owned.field,
                    options, out, first, last);
  }
  for (std::int64_t r = 0; r < out.shape[0]; ++r) {
    BrownianOptions one = options;
    one.stream += static_cast<std::uint32_t>(r);
    reference::brownian(mobility.model, box, owned.field, one, out[r]);
  }
}

ParticleSystem make_system(double trap, const std::string& landscape, double landscape_epsilon,
                           double landscape_sigma, double epsilon, double sigma, double cutoff,
                           double box, const std::string& wall, double wall_radius,
                           double wall_epsilon, double wall_sigma) {
  const auto index = [](const char* name, const std::string& value,
                        std::initializer_list<const char*> names) {
    int found = 0;
    for (const char* known : names) {
      if (value == known) return found;
      ++found;
    }
    detail::raise<InvalidArgument>(name, " is not known: \"", value, "\"");
  };
  ParticleSystem system;
  system.trap = trap;
  system.landscape.kind = static_cast<Landscape::Kind>(
      index("landscape", landscape, {"none", "lennard_jones", "double_well", "rugged"}));
  system.landscape.epsilon = landscape_epsilon;
  system.landscape.sigma = landscape_sigma;
  system.epsilon = epsilon;
  system.sigma = sigma;
  system.cutoff = cutoff;
  system.box = box;
  system.wall = {static_cast<SphericalWall::Kind>(index("wall", wall, {"none", "specular", "wca"})),
                 wall_radius, wall_epsilon, wall_sigma};
  return system;
}

VerletOptions verlet_options(double dt, std::int64_t every, const std::string& integrator,
                             double skin) {
  MLCORE_CHECK(integrator == "velocity_verlet" || integrator == "order8",
               "integrator must be \"velocity_verlet\" or \"order8\", got \"", integrator, "\"");
  return {dt, every, integrator == "order8" ? Integrator::order8 : Integrator::velocity_verlet,
          skin};
}

void run_verlet(const ParticleSystem& system, const VerletOptions& options,
                const py::object& masses, const py::object& positions, const py::object& velocities,
                const py::object& energies, std::int64_t first, std::int64_t last, int threads,
                std::uintptr_t stream) {
  const auto shape = shape4("positions", positions);
  Array<double> holder;
  const auto m = any_input<double, 2>("masses", masses, holder, {-1, -1});
  const auto x = any_output<double, 4>("positions", positions, shape);
  const auto v = any_output<double, 4>("velocities", velocities, shape);
  View<double, 3> E;
  if (!energies.is_none()) {
    E = any_output<double, 3>("energies", energies, {shape[0], shape[1], 2});
  }
  py::gil_scoped_release release;
  verlet({threads, reinterpret_cast<void*>(stream)}, system, options, m, x, v, E, first, last);
}

void run_forces(const ParticleSystem& system, const py::object& x, const py::object& F,
                const py::object& energies, int threads, std::uintptr_t stream) {
  Array<double> holder;
  const auto xs = any_input<double, 3>("x", x, holder, {-1, -1, -1});
  View<double, 3> out;
  View<double, 1> E;
  if (!F.is_none()) out = any_output<double, 3>("F", F, xs.shape);
  if (!energies.is_none()) E = any_output<double, 1>("energies", energies, {xs.shape[0]});
  py::gil_scoped_release release;
  system_forces({threads, reinterpret_cast<void*>(stream)}, system, xs, out, E);
}

void run_force_gradient(const ParticleSystem& system, const py::object& x, const py::object& g,
                        const py::object& out, int threads, std::uintptr_t stream) {
  Array<double> holders[2];
  const auto xs = any_input<double, 3>("x", x, holders[0], {-1, -1, -1});
  const auto gs = any_input<double, 3>("g", g, holders[1], xs.shape);
  const auto product = any_output<double, 3>("out", out, xs.shape);
  py::gil_scoped_release release;
  system_force_gradient({threads, reinterpret_cast<void*>(stream)}, system, xs, gs, product);
}

void reference_verlet(const ParticleSystem& system, const VerletOptions& options,
                      const Array<double>& masses, py::array positions, py::array velocities,
                      py::array energies) {
  const auto shape = shape4("positions", positions);
  const auto m = input_view<double, 2>("masses", masses, {shape[0], shape[2]});
  const auto x = output_view<double, 4>("positions", positions, shape);
  const auto v = output_view<double, 4>("velocities", velocities, shape);
  const auto E = output_view<double, 3>("energies", energies, {shape[0], shape[1], 2});
  py::gil_scoped_release release;
  for (std::int64_t r = 0; r < shape[0]; ++r) {
    reference::verlet(system, options, m[r], x[r], v[r], E[r]);
  }
}

double reference_forces(const ParticleSystem& system, const Array<double>& x, py::array F) {
  const auto xs = input_view<double, 2>("x", x, {-1, -1});
  return reference::system_forces(system, xs, output_view<double, 2>("out", F, xs.shape));
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
           py::arg("max_displacement"), py::arg("random_finite_difference") = 0.0,
           py::arg("noise") = "cholesky", py::arg("tol") = 1e-3);
  py::class_<ParticleSystem>(m, "ParticleSystem")
      .def(py::init(&make_system), py::kw_only(), py::arg("trap") = 0.0,
           py::arg("landscape") = "none", py::arg("landscape_epsilon") = 1.0,
           py::arg("landscape_sigma") = 1.0, py::arg("epsilon") = 0.0, py::arg("sigma") = 1.0,
           py::arg("cutoff") = 0.0, py::arg("box") = 0.0, py::arg("wall") = "none",
           py::arg("wall_radius") = 0.0, py::arg("wall_epsilon") = 1.0,
           py::arg("wall_sigma") = 1.0);
  py::class_<VerletOptions>(m, "VerletOptions")
      .def(py::init(&verlet_options), py::kw_only(), py::arg("dt"), py::arg("every"),
           py::arg("integrator"), py::arg("skin") = 0.0);
  m.def("verlet", &run_verlet, py::arg("system"), py::arg("options"), py::arg("masses"),
        py::arg("positions"), py::arg("velocities"), py::arg("energies"), py::arg("first"),
        py::arg("last"), py::arg("num_threads") = 0, py::arg("stream") = 0);
  m.def("system_forces", &run_forces, py::arg("system"), py::arg("x"), py::arg("F"),
        py::arg("energies"), py::arg("num_threads") = 0, py::arg("stream") = 0);
  m.def("system_force_gradient", &run_force_gradient, py::arg("system"), py::arg("x"), py::arg("g"),
        py::arg("out"), py::arg("num_threads") = 0, py::arg("stream") = 0);
  m.def("verlet_reference", &reference_verlet, py::arg("system"), py::arg("options"),
        py::arg("masses"), py::arg("positions").noconvert(), py::arg("velocities").noconvert(),
        py::arg("energies").noconvert());
  m.def("system_forces_reference", &reference_forces, py::arg("system"), py::arg("x"),
        py::arg("out").noconvert());
  m.def("force_field", &evaluate, py::arg("field"), py::arg("cell"), py::arg("pbc"), py::arg("x"),
        py::arg("out"), py::arg("reference") = false, py::arg("num_threads") = 0,
        py::arg("stream") = 0);
  m.def("brownian", &run, py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("field"),
        py::arg("options"), py::arg("frames"), py::arg("first"), py::arg("last"),
        py::arg("reference") = false, py::arg("num_threads") = 0, py::arg("stream") = 0);
}

}  // namespace mlcore::python
