#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/engine.h"

namespace mlmod {

/// `fix ID group mlcore MODE BUNDLE keyword value ...` for the modes that run a bundle.
struct BundleWords {
  std::string mode;    ///< "mobility", "force", "dynamics" or "qoi"
  std::string bundle;  ///< folder
  EngineChoice choice;
  std::optional<double> cutoff;
  std::int64_t every = 1;
  std::string
      forces;  ///< "output" or "always": when a splitting has them computed; empty: not said
  int verbose = 1;
  std::uint64_t seed = 1;
  bool seed_given = false;
  double temperature = 0;
  std::string temperature_variable;  ///< equal-style; empty: `temperature` stays
  std::optional<bool> midpoint;      ///< else em
  bool repair = false;
};

/// Words after `mlcore`. Throws std::runtime_error naming the wrong word.
BundleWords parse_bundle_words(const std::vector<std::string>& words);

}  // namespace mlmod
