#include "safetensors.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "json_text.h"

namespace mlmod {

namespace {

constexpr std::uint64_t kMaximumHeader = 1 << 20;
using nlohmann::json;

std::uint64_t natural(const std::string& field, const json& value) {
  if (!value.is_number_unsigned()) throw std::runtime_error(field + " must be a whole number");
  return value.get<std::uint64_t>();
}

std::uint64_t length(const std::string& field, const json& entry) {
  if (!entry.contains("dtype") || entry["dtype"] != "F64")
    throw std::runtime_error(field + ": dtype must be F64");
  if (!entry.contains("shape") || !entry["shape"].is_array() || entry["shape"].size() != 1)
    throw std::runtime_error(field + ": shape must have one dimension");
  return natural(field + ": shape", entry["shape"][0]);
}

std::vector<double> tensor(const std::string& field, const json& entry, std::string_view data) {
  if (!entry.is_object()) throw std::runtime_error(field + ": header entry must be an object");
  const std::uint64_t count = length(field, entry);
  if (!entry.contains("data_offsets") || !entry["data_offsets"].is_array() ||
      entry["data_offsets"].size() != 2)
    throw std::runtime_error(field + ": data_offsets must be two numbers");
  const std::uint64_t begin = natural(field + ": data_offsets", entry["data_offsets"][0]);
  const std::uint64_t end = natural(field + ": data_offsets", entry["data_offsets"][1]);
  if (end < begin || end > data.size())
    throw std::runtime_error(field + ": data_offsets reach past the end of the file (truncated?)");
  if (count > data.size() / sizeof(double) || end - begin != count * sizeof(double))
    throw std::runtime_error(field + ": data_offsets do not fit the shape");
  std::vector<double> values(count);
  if (count > 0) std::memcpy(values.data(), data.data() + begin, count * sizeof(double));
  for (std::uint64_t i = 0; i < count; ++i)
    if (!std::isfinite(values[i]))
      throw std::runtime_error(field + ": value " + std::to_string(i) + " is not finite");
  return values;
}

}  // namespace

std::map<std::string, std::vector<double>> read_safetensors(const std::string& label,
                                                            std::string_view content,
                                                            const std::vector<std::string>& names) {
  std::uint64_t size = 0;
  if (content.size() < sizeof size)
    throw std::runtime_error(label + ": truncated, shorter than its header length");
  std::memcpy(&size, content.data(), sizeof size);
  if (size > kMaximumHeader)
    throw std::runtime_error(label + ": header of " + std::to_string(size) +
                             " bytes, at most 1 MiB is read");
  content.remove_prefix(sizeof size);
  if (size > content.size()) throw std::runtime_error(label + ": truncated inside its header");
  const json header = parse_json(label + " header", content.substr(0, size));
  if (!header.is_object()) throw std::runtime_error(label + ": header must be a JSON object");
  content.remove_prefix(size);
  std::map<std::string, std::vector<double>> tensors;
  for (const std::string& name : names) {
    if (!header.contains(name))
      throw std::runtime_error(label + ": tensor '" + name + "' is missing");
    tensors[name] = tensor(label + ": tensor '" + name + "'", header[name], content);
  }
  return tensors;
}

}  // namespace mlmod
