#include "bundle_file.h"

#include <cmath>
#include <stdexcept>

#include "json_text.h"
#include "sha256.h"
#include "text_file.h"

namespace mlmod {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaximumManifest = 1 << 20;
constexpr std::size_t kMaximumFile = std::size_t{1} << 30;

}  // namespace

BundleFile::BundleFile(const std::string& folder)
    : folder_(folder), manifest_path_(folder + "/manifest.json") {
  std::error_code status;
  root_ = fs::canonical(folder_, status);
  if (status || !fs::is_directory(root_))
    throw std::runtime_error("'" + folder_ + "' is not a folder" +
                             (status ? " (" + status.message() + ")" : ""));
  manifest_ = parse_json("'" + manifest_path_ + "'", read_file(manifest_path_, kMaximumManifest));
  if (!manifest_.is_object()) fail("must hold a JSON object");
  if (field(manifest_, "manifest", "format") != "mlcore-bundle")
    fail("field format must be \"mlcore-bundle\"");
  if (field(manifest_, "manifest", "format_version") != 1)
    fail("field format_version must be 1, this version of mlcore reads no other");
}

std::string BundleFile::kind() const { return text(manifest_, "manifest", "kind"); }

void BundleFile::fail(const std::string& what) const {
  throw std::runtime_error("'" + manifest_path_ + "': " + what);
}

const BundleFile::json& BundleFile::field(const json& parent, const std::string& path,
                                          const char* name) const {
  if (!parent.is_object()) fail(path + " must be an object");
  const auto entry = parent.find(name);
  if (entry == parent.end()) fail("field " + path + "." + name + " is missing");
  return *entry;
}

double BundleFile::number(const json& parent, const std::string& path, const char* name) const {
  const json& value = field(parent, path, name);
  if (!value.is_number() || !std::isfinite(value.get<double>()))
    fail("field " + path + "." + name + " must be a finite number");
  return value.get<double>();
}

double BundleFile::positive(const json& parent, const std::string& path, const char* name) const {
  const double value = number(parent, path, name);
  if (value <= 0) fail("field " + path + "." + name + " must be positive");
  return value;
}

std::size_t BundleFile::natural(const json& parent, const std::string& path, const char* name,
                                std::size_t least) const {
  const json& value = field(parent, path, name);
  if (!value.is_number_unsigned() || value.get<std::size_t>() < least)
    fail("field " + path + "." + name + " must be a whole number of at least " +
         std::to_string(least));
  return value.get<std::size_t>();
}

std::string BundleFile::text(const json& parent, const std::string& path, const char* name) const {
  const json& value = field(parent, path, name);
  if (!value.is_string() || value.get<std::string>().empty())
    fail("field " + path + "." + name + " must be text");
  return value.get<std::string>();
}

bool BundleFile::lists(const std::string& name) const {
  const auto files = manifest_.find("files");
  return files != manifest_.end() && files->is_object() && files->contains(name);
}

void BundleFile::verify() {
  const json& files = field(manifest_, "manifest", "files");
  if (!files.is_object()) fail("field manifest.files must be an object");
  for (const auto& [name, entry] : files.items()) {
    std::string content = verified(name, entry);
    if (name == weights) weights_ = std::move(content);
  }
}

std::map<std::string, Tensor> BundleFile::tensors(const std::vector<std::string>& names) const {
  if (!lists(weights)) fail("files must list " + std::string(weights));
  return read_safetensors("'" + path(weights) + "'", weights_, names);
}

/// Path of a listed file; refuses names and links that lead out of the folder.
std::string BundleFile::inside(const std::string& name) const {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos)
    fail("files: '" + name + "' is not the plain name of a file inside the folder");
  const std::string place = path(name);
  std::error_code status;
  const fs::path real = fs::canonical(place, status);
  if (status) fail("files: cannot open '" + place + "': " + status.message());
  if (real.parent_path() != root_) fail("files: '" + name + "' leads outside the folder");
  return place;
}

std::string BundleFile::verified(const std::string& name, const json& entry) const {
  const json& expected = field(entry, "files." + name, "sha256");
  const std::string place = inside(name);
  std::string content = read_file(place, kMaximumFile);
  if (expected != sha256(content))
    fail("files: '" + place +
         "' does not have the sha256 recorded here: it was changed or damaged");
  return content;
}

}  // namespace mlmod
