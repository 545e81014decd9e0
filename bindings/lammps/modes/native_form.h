#pragma once

#include <memory>
#include <string>
#include <vector>

#include "modes/mode.h"
#include "surroundings.h"

namespace mlmod {

/// The mode that `fix ID group mlcore WORDS...` asks for.
/// Throws std::runtime_error naming the word, or the file and the field, that is wrong.
std::unique_ptr<Mode> make_native_mode(const std::vector<std::string>& words,
                                       const Surroundings& around);

}  // namespace mlmod
