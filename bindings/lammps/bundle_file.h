#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "safetensors.h"

namespace mlmod {

/// manifest.json of a bundle folder and the files it lists. Every function throws
/// std::runtime_error naming the file and the field.
class BundleFile {
 public:
  using json = nlohmann::json;
  static constexpr const char* weights = "weights.safetensors";

  /// Reads the manifest; checks format and format_version.
  explicit BundleFile(const std::string& folder);

  const std::string& folder() const { return folder_; }
  const json& manifest() const { return manifest_; }
  std::string kind() const;

  [[noreturn]] void fail(const std::string& what) const;

  const json& field(const json& parent, const std::string& path, const char* name) const;
  double number(const json& parent, const std::string& path, const char* name) const;
  double positive(const json& parent, const std::string& path, const char* name) const;
  std::size_t natural(const json& parent, const std::string& path, const char* name,
                      std::size_t least) const;
  std::string text(const json& parent, const std::string& path, const char* name) const;

  /// Compares the hash of every listed file and keeps the weights.
  void verify();
  bool lists(const std::string& name) const;
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  /// Tensors `names` of the weights; call verify() first.
  std::map<std::string, Tensor> tensors(const std::vector<std::string>& names) const;

 private:
  std::string inside(const std::string& name) const;
  std::string verified(const std::string& name, const json& entry) const;

  std::string folder_, manifest_path_;
  std::filesystem::path root_;
  json manifest_;
  std::string weights_;
};

}  // namespace mlmod
