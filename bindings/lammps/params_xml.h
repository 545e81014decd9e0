#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace mlmod {

/// An MLMOD parameter file:
/// `<MLMOD><model_data type="MODE"> <tag value="..."/> ... </model_data></MLMOD>`.
/// Everything throws std::runtime_error naming the file and the tag.
class ParameterFile {
 public:
  explicit ParameterFile(std::string path);

  const std::string& path() const { return path_; }
  const std::string& type() const { return type_; }
  const std::map<std::string, std::string>& values() const { return values_; }

  bool given(const std::string& tag) const { return values_.contains(tag); }
  const std::string& text(const std::string& tag) const;
  std::string text(const std::string& tag, const std::string& otherwise) const;
  double number(const std::string& tag) const;
  double positive(const std::string& tag) const;
  bool flag(const std::string& tag) const;
  long whole(const std::string& tag, long otherwise, long smallest) const;

  /// Blank-separated words, each one of `allowed`.
  std::set<std::string> words(const std::string& tag,
                              const std::vector<std::string>& allowed) const;

  [[noreturn]] void fail(const std::string& what) const;

 private:
  std::string path_;
  std::string type_;
  std::map<std::string, std::string> values_;
};

}  // namespace mlmod
