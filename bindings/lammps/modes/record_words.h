#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlmod {

/// `fix ID group mlcore record FILE every K keyword values ...`
struct RecordWords {
  std::string file;
  std::int64_t every = 0;
  std::vector<std::string> from;      ///< fixes whose values go into the frames
  std::optional<double> above;        ///< only frames whose largest spread exceeds this
  std::vector<std::string> elements;  ///< of types 1, 2, ...; empty: X for all
  bool energy = false;
  bool append = false;
};

/// Words after `mlcore`. Throws std::runtime_error naming the wrong word.
RecordWords parse_record_words(const std::vector<std::string>& words);

}  // namespace mlmod
