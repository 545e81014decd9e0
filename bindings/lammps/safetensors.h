#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace mlmod {

/// One-dimensional float64 tensors `names` of a safetensors file held in memory, by name.
/// `label` is what errors call the file. Every offset is checked before it is used.
/// Throws std::runtime_error naming the file and the tensor.
std::map<std::string, std::vector<double>> read_safetensors(const std::string& label,
                                                            std::string_view content,
                                                            const std::vector<std::string>& names);

}  // namespace mlmod
