#include "bundle_reader.h"

#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "json_text.h"
#include "safetensors.h"
#include "sha256.h"
#include "text_file.h"

namespace mlmod {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaximumManifest = 1 << 20;
constexpr std::size_t kMaximumFile = std::size_t{1} << 30;
constexpr const char* kWeights = "weights.safetensors";

class Reader {
 public:
  explicit Reader(const std::string& folder) : manifest_path_(folder + "/manifest.json") {
    bundle_.folder = folder;
  }

  Bundle read() {
    std::error_code status;
    root_ = fs::canonical(bundle_.folder, status);
    if (status || !fs::is_directory(root_))
      throw std::runtime_error("'" + bundle_.folder + "' is not a folder" +
                               (status ? " (" + status.message() + ")" : ""));
    manifest_ = parse_json("'" + manifest_path_ + "'", read_file(manifest_path_, kMaximumManifest));
    check_kind();
    read_units();
    read_mobility();
    read_weights();
    return bundle_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("'" + manifest_path_ + "': " + what);
  }

  const json& field(const json& parent, const std::string& path, const char* name) const {
    if (!parent.is_object()) fail(path + " must be an object");
    const auto entry = parent.find(name);
    if (entry == parent.end()) fail("field " + path + "." + name + " is missing");
    return *entry;
  }

  double number(const json& parent, const std::string& path, const char* name) const {
    const json& value = field(parent, path, name);
    if (!value.is_number() || !std::isfinite(value.get<double>()))
      fail("field " + path + "." + name + " must be a finite number");
    return value.get<double>();
  }

  void check_kind() const {
    if (!manifest_.is_object()) fail("must hold a JSON object");
    if (field(manifest_, "manifest", "format") != "mlcore-bundle")
      fail("field format must be \"mlcore-bundle\"");
    if (field(manifest_, "manifest", "format_version") != 1)
      fail("field format_version must be 1, this version of mlcore reads no other");
    if (field(manifest_, "manifest", "kind") != "mobility") fail("field kind must be \"mobility\"");
  }

  void read_units() {
    const json& units = field(manifest_, "manifest", "units");
    const json& length = field(units, "units", "length");
    for (const char* name : {"length", "energy", "time"})
      if (!field(units, "units", name).is_string())
        fail("field units." + std::string(name) + " must be text");
    if (length == units["energy"] && length == units["time"]) bundle_.units = length;
  }

  void read_mobility() {
    const json& mobility = field(manifest_, "manifest", "mobility");
    const json& background = field(mobility, "mobility", "background");
    const json& kernel = field(background, "mobility.background", "kernel");
    if (kernel != "none" && kernel != "rpy")
      fail("field mobility.background.kernel must be \"none\" or \"rpy\"");
    bundle_.kernel = kernel.get<std::string>();
    if (bundle_.kernel == "rpy") {
      bundle_.radius = positive(background, "mobility.background", "radius");
      bundle_.viscosity = positive(background, "mobility.background", "viscosity");
    }
    bundle_.self_mobility = number(mobility, "mobility", "self_mobility");
    bundle_.cutoff = positive(mobility, "mobility", "cutoff");
    const json& knots = field(mobility, "mobility", "knots");
    if (!knots.is_number_unsigned() || knots.get<std::size_t>() < 2)
      fail("field mobility.knots must be a whole number of at least 2");
    knots_ = knots.get<std::size_t>();
  }

  double positive(const json& parent, const std::string& path, const char* name) const {
    const double value = number(parent, path, name);
    if (value <= 0) fail("field " + path + "." + name + " must be positive");
    return value;
  }

  /// Path of a listed file; refuses names and links that lead out of the folder.
  std::string inside(const std::string& name) const {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos)
      fail("files: '" + name + "' is not the plain name of a file inside the folder");
    const std::string path = bundle_.folder + "/" + name;
    std::error_code status;
    const fs::path real = fs::canonical(path, status);
    if (status) fail("files: cannot open '" + path + "': " + status.message());
    if (real.parent_path() != root_) fail("files: '" + name + "' leads outside the folder");
    return path;
  }

  std::string verified(const std::string& name, const json& entry) const {
    const json& expected = field(entry, "files." + name, "sha256");
    const std::string path = inside(name);
    std::string content = read_file(path, kMaximumFile);
    if (expected != sha256(content))
      fail("files: '" + path +
           "' does not have the sha256 recorded here: it was changed or damaged");
    return content;
  }

  void read_weights() {
    const json& files = field(manifest_, "manifest", "files");
    if (!files.is_object() || !files.contains(kWeights))
      fail("files must list " + std::string(kWeights));
    std::string weights;
    for (const auto& [name, entry] : files.items()) {
      std::string content = verified(name, entry);
      if (name == kWeights) weights = std::move(content);
    }
    auto tensors = read_safetensors("'" + bundle_.folder + "/" + kWeights + "'", weights,
                                    {"par", "dpar", "perp", "dperp"});
    for (const auto& [name, values] : tensors)
      if (values.size() != knots_)
        throw std::runtime_error("'" + bundle_.folder + "/" + kWeights + "': tensor '" + name +
                                 "' has " + std::to_string(values.size()) +
                                 " values, the manifest says knots = " + std::to_string(knots_));
    bundle_.par = std::move(tensors["par"]);
    bundle_.dpar = std::move(tensors["dpar"]);
    bundle_.perp = std::move(tensors["perp"]);
    bundle_.dperp = std::move(tensors["dperp"]);
  }

  Bundle bundle_;
  std::string manifest_path_;
  fs::path root_;
  json manifest_;
  std::size_t knots_ = 0;
};

}  // namespace

Bundle read_bundle(const std::string& folder) { return Reader(folder).read(); }

}  // namespace mlmod
