#include "command_words.h"

#include <charconv>
#include <set>
#include <stdexcept>

namespace mlmod {

namespace {

constexpr const char* kUsage =
    "fix ID group mlmod FILE [verbose L] [seed S] [legacy yes|no] [psd error|repair]";

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + "; the command is: " + kUsage);
}

std::uint64_t integer(const std::string& word, const std::string& text, std::uint64_t largest) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value > largest)
    fail("'" + word + "' needs a whole number from 0 to " + std::to_string(largest) + ", found '" +
         text + "'");
  return value;
}

bool choice(const std::string& word, const std::string& text, const char* no, const char* yes) {
  if (text != no && text != yes)
    fail("'" + word + "' must be '" + yes + "' or '" + no + "', found '" + text + "'");
  return text == yes;
}

}  // namespace

CommandWords parse_words(const std::vector<std::string>& words) {
  if (words.empty()) fail("the parameter file is missing");
  CommandWords command{.file = words[0]};
  std::set<std::string> seen;
  for (std::size_t i = 1; i < words.size(); i += 2) {
    const std::string& word = words[i];
    if (word != "verbose" && word != "seed" && word != "legacy" && word != "psd")
      fail("unknown word '" + word + "'");
    if (i + 1 == words.size()) fail("'" + word + "' has no value");
    if (!seen.insert(word).second) fail("'" + word + "' is given twice");
    const std::string& text = words[i + 1];
    if (word == "verbose") command.verbose = static_cast<int>(integer(word, text, 2));
    if (word == "seed") command.seed = integer(word, text, 0x1FFFFFFFFFFFFFu);
    if (word == "legacy") command.legacy = choice(word, text, "no", "yes");
    if (word == "psd") command.repair = choice(word, text, "error", "repair");
  }
  command.seed_given = seen.contains("seed");
  return command;
}

}  // namespace mlmod
