#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mode.h"
#include "surroundings.h"

namespace mlmod {

/// The mode that `fix ID group mlmod WORDS...` asks for.
/// Throws std::runtime_error naming the word, or the file and the tag, that is wrong.
std::unique_ptr<Mode> make_mlmod_mode(const std::vector<std::string>& words,
                                      const Surroundings& around);

}  // namespace mlmod
