#pragma once

#include <map>
#include <optional>
#include <string>

namespace mlmod {

enum class Mode { deterministic_pair, stochastic_pair, stochastic_whole };

/// What an MLMOD parameter file asks for. Paths are as written: relative to the working directory.
struct Parameters {
  std::string file;
  std::string type;  ///< MODE as written
  Mode mode = Mode::deterministic_pair;
  std::string bundle;  ///< folder of an mlcore bundle; empty: TorchScript files
  std::string m_ii, m_ij;
  std::string m;
  double delta = 0;
  double kbt = 0;
  bool stochastic = false;
  bool drift = false;
  std::map<std::string, std::string> values;  ///< every tag of the file

  bool has_noise() const { return stochastic && kbt > 0; }
  bool has_drift() const { return drift && kbt > 0; }
};

/// Reads `<MLMOD><model_data type="MODE"> <tag value="..."/> ... </model_data></MLMOD>`.
/// Throws std::runtime_error naming the file and the tag.
Parameters read_parameters(const std::string& path);

}  // namespace mlmod
