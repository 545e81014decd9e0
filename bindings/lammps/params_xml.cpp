#include "params_xml.h"

#include <tinyxml2.h>

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <stdexcept>
#include <string_view>

#include "text_file.h"

namespace mlmod {

namespace {

constexpr std::size_t kMaximumBytes = 1 << 20;
constexpr int kMaximumDepth = 16;

class Reader {
 public:
  explicit Reader(const std::string& path) { parameters_.file = path; }

  Parameters read() {
    load();
    collect(root());
    set_mode();
    if (parameters_.mode == Mode::stochastic_whole)
      parameters_.m = required_text("M_filename");
    else
      read_pair_models();
    if (parameters_.mode != Mode::deterministic_pair) read_dynamics();
    return parameters_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error("parameter file '" + parameters_.file + "': " + what);
  }

  void load() {
    const std::string text = read_file(parameters_.file, kMaximumBytes);
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

  const tinyxml2::XMLElement& root() const {
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

  void collect(const tinyxml2::XMLElement& data) {
    parameters_.type = data.Attribute("type");
    for (const auto* tag = data.FirstChildElement(); tag; tag = tag->NextSiblingElement()) {
      const char* value = tag->Attribute("value");
      if (!value) fail("<" + std::string(tag->Name()) + "> has no attribute value");
      if (!parameters_.values.emplace(tag->Name(), value).second)
        fail("<" + std::string(tag->Name()) + "> is given twice");
    }
  }

  void set_mode() {
    if (parameters_.type == "dX_MF_ML1")
      parameters_.mode = Mode::deterministic_pair;
    else if (parameters_.type == "dX_MF_Q1_ML1_Pair")
      parameters_.mode = Mode::stochastic_pair;
    else if (parameters_.type == "dX_MF_Q1_ML1_N2N")
      parameters_.mode = Mode::stochastic_whole;
    else
      refuse_mode();
  }

  [[noreturn]] void refuse_mode() const {
    constexpr std::string_view here = "dX_MF_ML1, dX_MF_Q1_ML1_Pair, dX_MF_Q1_ML1_N2N";
    constexpr std::array<std::string_view, 6> later{"dX_MF",      "F_ML1",   "F_X_ML1",
                                                    "F_Pair_ML1", "Dyn_ML1", "QoI_ML1"};
    for (std::string_view name : later)
      if (parameters_.type == name)
        fail("<model_data> type: not available yet: " + parameters_.type +
             " (available: " + std::string(here) + ")");
    fail("<model_data> type '" + parameters_.type +
         "' is unknown (available: " + std::string(here) + ")");
  }

  bool given(const std::string& tag) const { return parameters_.values.contains(tag); }

  std::string required_text(const std::string& tag) const {
    const auto entry = parameters_.values.find(tag);
    if (entry == parameters_.values.end())
      fail("<" + tag + " value=\"...\"/> is missing, " + parameters_.type + " needs it");
    if (entry->second.empty()) fail("<" + tag + "> has an empty value");
    return entry->second;
  }

  double number(const std::string& tag) const {
    const std::string text = required_text(tag);
    double value = 0;
    const char* end = text.data() + text.size();
    const char* begin = text.data() + (text[0] == '+' ? 1 : 0);
    const auto [stop, error] = std::from_chars(begin, end, value);
    if (error != std::errc() || stop != end || !std::isfinite(value))
      fail("<" + tag + "> must be a finite number, found '" + text + "'");
    return value;
  }

  bool flag(const std::string& tag) const {
    const std::string text = required_text(tag);
    if (text != "0" && text != "1") fail("<" + tag + "> must be 0 or 1, found '" + text + "'");
    return text == "1";
  }

  void read_pair_models() {
    if (!given("bundle")) {
      parameters_.m_ii = required_text("M_ii_filename");
      parameters_.m_ij = required_text("M_ij_filename");
      return;
    }
    for (const char* tag : {"M_ii_filename", "M_ij_filename"})
      if (given(tag)) fail("give either <bundle> or <" + std::string(tag) + ">, not both");
    parameters_.bundle = required_text("bundle");
  }

  void read_dynamics() {
    parameters_.kbt = number("KBT");
    if (parameters_.kbt < 0) fail("<KBT> must not be negative");
    parameters_.stochastic = flag("flag_stochastic") && parameters_.kbt > 0;
    parameters_.drift = flag("flag_thm_drift");
    const bool exact_divergence = !parameters_.bundle.empty();
    if (!exact_divergence || given("delta")) parameters_.delta = number("delta");
    if (!exact_divergence && parameters_.has_drift() && !(parameters_.delta > 0))
      fail(
          "<delta> must be positive when <flag_thm_drift> is 1: it is the displacement of the "
          "finite difference");
  }

  Parameters parameters_;
  tinyxml2::XMLDocument document_;
};

}  // namespace

Parameters read_parameters(const std::string& path) { return Reader(path).read(); }

}  // namespace mlmod
