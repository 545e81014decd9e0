#include "params_xml.h"

#include <tinyxml2.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "text_file.h"

namespace mlmod {

namespace {

constexpr std::size_t kMaximumBytes = 1 << 20;
constexpr int kMaximumDepth = 16;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw std::runtime_error("parameter file '" + path + "': " + what);
}

class Document {
 public:
  explicit Document(const std::string& path) : path_(path) { load(); }

  const tinyxml2::XMLElement& model_data() const {
    const tinyxml2::XMLElement* top = document_.RootElement();
    if (!top || std::string_view(top->Name()) != "MLMOD")
      fail("the outermost element must be <MLMOD>" +
           (top ? ", found <" + std::string(top->Name()) + ">" : std::string()));
    if (top->NextSiblingElement()) fail("there must be one outermost element <MLMOD>");
    const tinyxml2::XMLElement* data = top->FirstChildElement("model_data");
    if (!data) fail("<MLMOD> holds no <model_data type=\"MODE\">");
    if (data->NextSiblingElement("model_data")) fail("<MLMOD> holds more than one <model_data>");
    if (!data->Attribute("type")) fail("<model_data> has no attribute type");
    return *data;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { refuse(path_, what); }

  void load() {
    const std::string text = read_file(path_, kMaximumBytes);
    if (text.find('\0') != std::string::npos) fail("not a text file (holds a zero byte)");
    for (const char* word : {"<!DOCTYPE", "<!ENTITY"})
      if (contains(text, word)) fail(std::string(word) + " is not allowed");
    check_depth(text);
    if (document_.Parse(text.data(), text.size()) != tinyxml2::XML_SUCCESS)
      fail("malformed XML at line " + std::to_string(document_.ErrorLineNum()) + ": " +
           document_.ErrorName());
  }

  static bool contains(std::string_view text, std::string_view word) {
    const auto same = [](char a, char b) {
      return std::toupper(static_cast<unsigned char>(a)) == b;
    };
    for (std::size_t i = 0; i + word.size() <= text.size(); ++i)
      if (same(text[i], word[0]) &&
          std::equal(word.begin(), word.end(), text.begin() + static_cast<std::ptrdiff_t>(i),
                     [&](char w, char t) { return same(t, w); }))
        return true;
    return false;
  }

  /// Refuses deep nesting before the parser, which recurses, sees it.
  void check_depth(std::string_view text) const {
    int depth = 0;
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
      if (text[i] == '<' && text[i + 1] == '/') --depth;
      if (text[i] == '<' &&
          (std::isalpha(static_cast<unsigned char>(text[i + 1])) || text[i + 1] == '_'))
        ++depth;
      if (text[i] == '/' && text[i + 1] == '>') --depth;
      if (depth > kMaximumDepth)
        fail("elements are nested deeper than " + std::to_string(kMaximumDepth));
    }
  }

  const std::string& path_;
  tinyxml2::XMLDocument document_;
};

}  // namespace

ParameterFile::ParameterFile(std::string path) : path_(std::move(path)) {
  const Document document(path_);
  const tinyxml2::XMLElement& data = document.model_data();
  type_ = data.Attribute("type");
  for (const auto* tag = data.FirstChildElement(); tag; tag = tag->NextSiblingElement()) {
    const char* value = tag->Attribute("value");
    if (!value) fail("<" + std::string(tag->Name()) + "> has no attribute value");
    if (!values_.emplace(tag->Name(), value).second)
      fail("<" + std::string(tag->Name()) + "> is given twice");
  }
}

void ParameterFile::fail(const std::string& what) const { refuse(path_, what); }

const std::string& ParameterFile::text(const std::string& tag) const {
  const auto entry = values_.find(tag);
  if (entry == values_.end())
    fail("<" + tag + " value=\"...\"/> is missing, " + type_ + " needs it");
  if (entry->second.empty()) fail("<" + tag + "> has an empty value");
  return entry->second;
}

std::string ParameterFile::text(const std::string& tag, const std::string& otherwise) const {
  return given(tag) ? text(tag) : otherwise;
}

double ParameterFile::number(const std::string& tag) const {
  const std::string& word = text(tag);
  double value = 0;
  const char* end = word.data() + word.size();
  const char* begin = word.data() + (word[0] == '+' ? 1 : 0);
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value))
    fail("<" + tag + "> must be a finite number, found '" + word + "'");
  return value;
}

double ParameterFile::positive(const std::string& tag) const {
  const double value = number(tag);
  if (!(value > 0)) fail("<" + tag + "> must be positive, found '" + text(tag) + "'");
  return value;
}

bool ParameterFile::flag(const std::string& tag) const {
  const std::string& word = text(tag);
  if (word != "0" && word != "1") fail("<" + tag + "> must be 0 or 1, found '" + word + "'");
  return word == "1";
}

long ParameterFile::whole(const std::string& tag, long otherwise, long smallest) const {
  if (!given(tag)) return otherwise;
  const std::string& word = text(tag);
  long value = 0;
  const char* end = word.data() + word.size();
  const auto [stop, error] = std::from_chars(word.data(), end, value);
  if (error != std::errc() || stop != end || value < smallest)
    fail("<" + tag + "> must be a whole number of at least " + std::to_string(smallest) +
         ", found '" + word + "'");
  return value;
}

std::set<std::string> ParameterFile::words(const std::string& tag,
                                           const std::vector<std::string>& allowed) const {
  std::istringstream stream(text(tag));
  std::set<std::string> found;
  for (std::string word; stream >> word; found.insert(word)) {
    if (std::find(allowed.begin(), allowed.end(), word) != allowed.end()) continue;
    std::string list;
    for (const std::string& name : allowed) list += (list.empty() ? "" : " ") + name;
    fail("<" + tag + ">: unknown word '" + word + "', expected blank-separated words of: " + list);
  }
  if (found.empty()) fail("<" + tag + "> has an empty value");
  return found;
}

}  // namespace mlmod
