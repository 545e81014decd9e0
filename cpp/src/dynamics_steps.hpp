#pragma once

// What Brownian steps on the CPU and on the GPU share.

#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>

#include "mlcore/error.hpp"

namespace mlcore::detail {

/// Sets the numbers of the random finite difference apart from those of the noise.
constexpr std::uint64_t kOtherNumbers = 0x9e3779b97f4a7c15;

inline std::string step_name(std::int64_t replica, std::int64_t step) {
  std::ostringstream text;
  text << "at step " << step << " of replica " << replica << ": ";
  return text.str();
}

[[noreturn]] inline void raise_blow_up(std::int64_t replica, std::int64_t step,
                                       std::int64_t particle, double length, double limit,
                                       double dt) {
  raise<Error>(step_name(replica, step), "particle ", particle, " would move by ", length,
               " (longest step allowed: ", limit,
               "); the run has blown up: take a smaller dt (now ", dt,
               ") or a start without overlaps");
}

/// The particle that moved farthest, from squared lengths; what is no number counts as infinite.
struct LongestStep {
  double square = -1;
  std::int64_t particle = 0;

  void see(std::int64_t i, double length2) {
    if (!(square < length2) && !std::isnan(length2)) return;
    square = std::isnan(length2) ? std::numeric_limits<double>::infinity() : length2;
    particle = i;
  }
  bool within(double limit) const { return square <= limit * limit && std::isfinite(square); }
};

}  // namespace mlcore::detail
