#include "modes/bundle_words.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

namespace mlmod {

namespace {

using Words = std::vector<std::string>;

const std::map<std::string, Words>& keywords() {
  static const std::map<std::string, Words> known{
      {"mobility", {"temp", "seed", "integrator", "psd", "verbose"}},
      {"force", {"engine", "dtype", "device", "cutoff", "verbose"}},
      {"dynamics", {"engine", "dtype", "device", "forces", "verbose"}},
      {"qoi", {"engine", "dtype", "device", "cutoff", "every", "verbose"}}};
  return known;
}

std::string listed(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

class Parser {
 public:
  explicit Parser(const Words& words) : words_(words) {}

  BundleWords parse() {
    if (words_.empty()) fail("the mode is missing");
    found_.mode = words_[0];
    if (!keywords().contains(found_.mode))
      fail("unknown mode '" + found_.mode + "' (mobility, force, dynamics, qoi or record)");
    if (words_.size() < 2) fail("the folder of the bundle is missing");
    found_.bundle = words_[1];
    for (std::size_t i = 2; i < words_.size(); i += 2) take(i);
    return found_;
  }

 private:
  [[noreturn]] static void fail(const std::string& what) {
    throw std::runtime_error(what +
                             "; the command is: fix ID group mlcore MODE BUNDLE keyword value ...");
  }

  void take(std::size_t i) {
    const std::string& word = words_[i];
    const Words& known = keywords().at(found_.mode);
    if (std::find(known.begin(), known.end(), word) == known.end())
      fail("unknown keyword '" + word + "' for mode " + found_.mode + " (known: " + listed(known) +
           ")");
    if (i + 1 == words_.size()) fail("keyword '" + word + "' has no value");
    if (!seen_.insert(word).second) fail("keyword '" + word + "' is given twice");
    store(word, words_[i + 1]);
  }

  void store(const std::string& word, const std::string& text) {
    if (word == "engine")
      found_.choice.engine = choice(word, text, {"native", "compiled", "torchscript"});
    if (word == "dtype") found_.choice.dtype = choice(word, text, {"float32", "float64"});
    if (word == "device") found_.choice.device = choice(word, text, {"cpu", "cuda"});
    if (word == "forces") found_.forces = choice(word, text, {"output", "always"});
    if (word == "cutoff") found_.cutoff = positive(word, text);
    if (word == "every") found_.every = integer(word, text, 1, 1 << 30);
    if (word == "verbose") found_.verbose = static_cast<int>(integer(word, text, 0, 2));
    if (word == "seed") found_.seed = static_cast<std::uint64_t>(integer(word, text, 0, kSeeds));
    if (word == "seed") found_.seed_given = true;
    if (word == "temp") temperature(text);
    if (word == "integrator")
      found_.midpoint = choice(word, text, {"em", "midpoint"}) == "midpoint";
    if (word == "psd") found_.repair = choice(word, text, {"error", "repair"}) == "repair";
  }

  static std::string choice(const std::string& word, const std::string& text,
                            const Words& allowed) {
    if (std::find(allowed.begin(), allowed.end(), text) == allowed.end())
      fail("keyword '" + word + "' must be one of " + listed(allowed) + ", found '" + text + "'");
    return text;
  }

  static std::int64_t integer(const std::string& word, const std::string& text, std::int64_t least,
                              std::int64_t most) {
    std::int64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end || value < least || value > most)
      fail("keyword '" + word + "' needs a whole number from " + std::to_string(least) + " to " +
           std::to_string(most) + ", found '" + text + "'");
    return value;
  }

  static double number(const std::string& word, const std::string& text) {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end || !std::isfinite(value))
      fail("keyword '" + word + "' needs a finite number, found '" + text + "'");
    return value;
  }

  static double positive(const std::string& word, const std::string& text) {
    const double value = number(word, text);
    if (!(value > 0)) fail("keyword '" + word + "' needs a positive number, found '" + text + "'");
    return value;
  }

  void temperature(const std::string& text) {
    if (text.starts_with("v_") && text.size() > 2) {
      found_.temperature_variable = text.substr(2);
      return;
    }
    found_.temperature = number("temp", text);
    if (found_.temperature < 0) fail("keyword 'temp' must not be negative, found '" + text + "'");
  }

  static constexpr std::int64_t kSeeds = 0x1FFFFFFFFFFFFF;

  const Words& words_;
  BundleWords found_;
  std::set<std::string> seen_;
};

}  // namespace

BundleWords parse_bundle_words(const std::vector<std::string>& words) {
  return Parser(words).parse();
}

}  // namespace mlmod
