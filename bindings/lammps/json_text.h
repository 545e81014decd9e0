#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mlmod {

/// Parses JSON that is nested at most 16 deep. Throws std::runtime_error starting with `label`.
inline nlohmann::json parse_json(const std::string& label, std::string_view text) {
  constexpr int deepest = 16;
  using nlohmann::json;
  const auto check = [&](int depth, json::parse_event_t, json&) {
    if (depth > deepest)
      throw std::runtime_error(label + ": nested deeper than " + std::to_string(deepest));
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    throw std::runtime_error(label + ": not valid JSON: " + error.what());
  }
}

}  // namespace mlmod
