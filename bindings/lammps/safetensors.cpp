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

std::vector<std::size_t> shape_of(const std::string& field, const json& entry) {
  constexpr std::size_t most = 8;
  if (!entry.contains("dtype") || entry["dtype"] != "F64")
    throw std::runtime_error(field + ": dtype must be F64");
  if (!entry.contains("shape") || !entry["shape"].is_array() || entry["shape"].size() > most)
    throw std::runtime_error(field + ": shape must be a list of at most " + std::to_string(most));
  std::vector<std::size_t> shape;
  for (const json& extent : entry["shape"]) shape.push_back(natural(field + ": shape", extent));
  return shape;
}

/// Number of values; `limit` is how many the file can hold at most.
std::uint64_t count_of(const std::string& field, const std::vector<std::size_t>& shape,
                       std::uint64_t limit) {
  std::uint64_t count = 1;
  for (const std::size_t extent : shape) {
    if (extent != 0 && count > limit / extent)
      throw std::runtime_error(field + ": data_offsets do not fit the shape");
    count *= extent;
  }
  return count;
}

Tensor tensor(const std::string& field, const json& entry, std::string_view data) {
  if (!entry.is_object()) throw std::runtime_error(field + ": header entry must be an object");
  Tensor result{.shape = shape_of(field, entry), .values = {}};
  if (!entry.contains("data_offsets") || !entry["data_offsets"].is_array() ||
      entry["data_offsets"].size() != 2)
    throw std::runtime_error(field + ": data_offsets must be two numbers");
  const std::uint64_t begin = natural(field + ": data_offsets", entry["data_offsets"][0]);
  const std::uint64_t end = natural(field + ": data_offsets", entry["data_offsets"][1]);
  if (end < begin || end > data.size())
    throw std::runtime_error(field + ": data_offsets reach past the end of the file (truncated?)");
  const std::uint64_t count = count_of(field, result.shape, data.size() / sizeof(double));
  if (end - begin != count * sizeof(double))
    throw std::runtime_error(field + ": data_offsets do not fit the shape");
  result.values.resize(count);
  if (count > 0) std::memcpy(result.values.data(), data.data() + begin, count * sizeof(double));
  for (std::uint64_t i = 0; i < count; ++i)
    if (!std::isfinite(result.values[i]))
      throw std::runtime_error(field + ": value " + std::to_string(i) + " is not finite");
  return result;
}

}  // namespace

std::map<std::string, Tensor> read_safetensors(const std::string& label, std::string_view content,
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
  std::map<std::string, Tensor> tensors;
  for (const std::string& name : names) {
    if (!header.contains(name))
      throw std::runtime_error(label + ": tensor '" + name + "' is missing");
    tensors[name] = tensor(label + ": tensor '" + name + "'", header[name], content);
  }
  return tensors;
}

}  // namespace mlmod
