#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mobility_source.h"

namespace mlmod {

/// Which terms of the motion there are.
struct MobilityParameters {
  std::string source;  ///< starts messages: "parameter file 'model.xml'"
  double kbt = 0;
  bool stochastic = false;
  bool drift = false;
  double delta = 0;  ///< displacement of the random finite difference

  bool has_noise() const { return stochastic && kbt > 0; }
  bool has_drift() const { return drift && kbt > 0; }
};

/// What the noise of one fix depends on besides step and atom ids.
struct NoiseKey {
  std::uint64_t seed = 1;
  std::uint32_t stream = 0;        ///< of the thermal noise
  std::uint32_t drift_stream = 1;  ///< of the directions of the finite difference
};

/// Stream numbers made from the id of a fix: two fixes never share their noise.
NoiseKey noise_key(std::uint64_t seed, const std::string& fix_id);

/// One time step of overdamped motion of a whole group, dx = (M f + kT div M) dt + noise.
///
/// Stochastic modes: MLMOD's predictor-corrector with one noise Q xi for both stages,
/// Q Q^T = (2 kT / dt) M(x_n), and dt kT div M(x_n) added once when the drift is asked for.
class MobilityStepper {
 public:
  using Warn = std::function<void(const std::string&)>;

  MobilityStepper(MobilityParameters parameters, std::unique_ptr<MobilitySource> source,
                  NoiseKey key, bool repair, Warn warn);

  /// v = M f.
  void velocities(const Configuration& now, std::vector<double>& v);

  /// First stage at x_n: `u` holds what moves the particles to x* = x_n + dt u.
  void predict(const Configuration& now, std::int64_t step, double dt, std::vector<double>& u);

  /// Second stage at x*: x_{n+1} = x* + dt change. `v` is M(x*) f(x*), with the noise and the drift
  /// when `with_noise`. Particles that were not there in the first stage are left in place.
  void correct(const Configuration& now, bool with_noise, std::vector<double>& change,
               std::vector<double>& v);

  void set_seed(std::uint64_t seed) { key_.seed = seed; }
  void set_temperature(double kbt) { parameters_.kbt = kbt; }
  double last_shift() const { return shift_; }
  std::int64_t repaired_steps() const { return repaired_steps_; }

 private:
  void add_noise(const Configuration& now, std::int64_t step, double dt);
  void factorize(const Configuration& now, std::int64_t step);
  void repair(const Configuration& now, std::int64_t step, double smallest);
  std::string not_positive(const Configuration& now, std::int64_t step, double smallest) const;
  void add_drift(const Configuration& now, std::int64_t step);
  void random_difference(const Configuration& now, std::int64_t step, std::vector<double>& d);
  std::int64_t row_in_first_stage(std::uint32_t tag, std::int64_t guess) const;

  MobilityParameters parameters_;
  std::unique_ptr<MobilitySource> source_;
  NoiseKey key_;
  bool repair_;
  Warn warn_;

  std::vector<double> matrix_;
  double shift_ = 0;  ///< added to the diagonal of M in this step
  std::int64_t repaired_steps_ = 0;

  std::vector<std::uint32_t> tags_;    ///< of the first stage
  std::vector<double> deterministic_;  ///< M f of the first stage
  std::vector<double> extra_;          ///< noise and drift of this step
};

}  // namespace mlmod
