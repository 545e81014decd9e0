#include "modes/record_words.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <stdexcept>

namespace mlmod {

namespace {

using Words = std::vector<std::string>;

constexpr std::array kKeywords{"every", "from", "above", "energy", "append", "elements"};

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what +
                           "; the command is: fix ID group mlcore record FILE every K "
                           "[from FIX ...] [above S] [energy yes|no] [append yes|no] "
                           "[elements E1 E2 ...]");
}

bool is_keyword(const std::string& word) {
  return std::find(kKeywords.begin(), kKeywords.end(), word) != kKeywords.end();
}

template <class Number>
Number number(const std::string& word, const std::string& text, const char* what) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(static_cast<double>(value)))
    fail("keyword '" + word + "' needs " + what + ", found '" + text + "'");
  return value;
}

bool yes(const std::string& word, const std::string& text) {
  if (text != "yes" && text != "no")
    fail("keyword '" + word + "' must be one of yes, no, found '" + text + "'");
  return text == "yes";
}

/// Values of the keyword at `place`, which steps behind them.
Words values(const Words& words, std::size_t& place) {
  const std::string& word = words[place++];
  const auto first = words.begin() + static_cast<std::ptrdiff_t>(place);
  const bool many = word == "from" || word == "elements";
  const auto last =
      many ? std::find_if(first, words.end(), is_keyword) : first + (first != words.end());
  if (first == last) fail("keyword '" + word + "' has no value");
  place += static_cast<std::size_t>(last - first);
  return {first, last};
}

void store(RecordWords& found, const std::string& word, const Words& given) {
  const std::string& text = given[0];
  if (word == "every") {
    found.every = number<std::int64_t>(word, text, "a whole number of at least 1");
    if (found.every < 1)
      fail("keyword 'every' needs a whole number of at least 1, found '" + text + "'");
  }
  if (word == "above") {
    found.above = number<double>(word, text, "a finite number");
    if (*found.above < 0) fail("keyword 'above' must not be negative, found '" + text + "'");
  }
  if (word == "from") found.from = given;
  if (word == "elements") found.elements = given;
  if (word == "energy") found.energy = yes(word, text);
  if (word == "append") found.append = yes(word, text);
}

void check(const RecordWords& found) {
  if (found.every == 0) fail("keyword 'every' is missing");
  if (std::set<std::string>(found.from.begin(), found.from.end()).size() != found.from.size())
    fail("keyword 'from' names a fix twice");
  if (found.above && found.from.empty())
    fail("keyword 'above' needs 'from': the fix whose spread is meant");
}

}  // namespace

RecordWords parse_record_words(const Words& words) {
  if (words.size() < 2) fail("the file is missing");
  RecordWords found;
  found.file = words[1];
  std::set<std::string> seen;
  for (std::size_t place = 2; place < words.size();) {
    const std::string& word = words[place];
    if (!is_keyword(word)) fail("unknown keyword '" + word + "' for mode record");
    if (!seen.insert(word).second) fail("keyword '" + word + "' is given twice");
    store(found, word, values(words, place));
  }
  check(found);
  return found;
}

}  // namespace mlmod
