#pragma once

#include <stdexcept>
#include <string>

namespace mlmod {

/// Runs `body` and turns whatever it throws into a runtime_error that starts with `who`.
template <class Body>
auto named(const std::string& who, Body&& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    throw std::runtime_error(who + ": " + error.what());
  }
}

}  // namespace mlmod
