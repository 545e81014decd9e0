#pragma once

#include <c10/util/Exception.h>

#include <stdexcept>
#include <string>

#include "named_errors.h"

namespace mlmod {

/// What torch says, without the stack and as much of it as a line of LAMMPS' log should hold.
inline std::string torch_says(const std::exception& error) {
  constexpr std::size_t limit = 600;
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = of_torch ? of_torch->what_without_backtrace() : error.what();
  return text.size() <= limit ? text : text.substr(0, limit) + " ...";
}

/// named(), with torch_says().
template <class Body>
auto named_torch(const std::string& who, Body&& body) {
  return named(who, [&] {
    try {
      return body();
    } catch (const std::exception& error) {
      throw std::runtime_error(torch_says(error));
    }
  });
}

}  // namespace mlmod
