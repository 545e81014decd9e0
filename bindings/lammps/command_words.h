#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mlmod {

/// `fix ID group mlmod FILE [verbose L] [seed S] [legacy yes|no] [psd error|repair]`.
struct CommandWords {
  std::string file;
  int verbose = 1;
  std::uint64_t seed = 1;
  bool seed_given = false;
  bool legacy = false;
  bool repair = false;
};

/// Words after `mlmod`. Throws std::runtime_error naming the wrong word.
CommandWords parse_words(const std::vector<std::string>& words);

}  // namespace mlmod
