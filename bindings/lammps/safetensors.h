#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mlmod {

struct Tensor {
  std::vector<std::size_t> shape;
  std::vector<double> values;  ///< row-major
};

/// Float64 tensors `names` of a safetensors file held in memory, by name.
/// `label` is what errors call the file. Every offset is checked before it is used.
/// Throws std::runtime_error naming the file and the tensor.
std::map<std::string, Tensor> read_safetensors(const std::string& label, std::string_view content,
                                               const std::vector<std::string>& names);

}  // namespace mlmod
