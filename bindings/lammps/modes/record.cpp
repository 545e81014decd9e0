#include "modes/record.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

namespace mlmod {

namespace {

/// Shortest text that reads back as the same number.
void put(std::string& text, double value) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  text.append(digits, end);
}

std::string numbers(const double* values, std::size_t count, const char* between = " ") {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) text += between;
    put(text, values[i]);
  }
  return text;
}

std::string numbers(const std::vector<double>& values) {
  return numbers(values.data(), values.size());
}

std::string quoted(const std::string& text) { return '"' + text + '"'; }

/// The matrix as ASE writes and reads it.
std::string matrix(const std::vector<double>& values, int columns) {
  const auto width = static_cast<std::size_t>(columns);
  std::string text = "\"_JSON [";
  for (std::size_t row = 0; row * width < values.size(); ++row)
    text += (row > 0 ? ", [" : "[") + numbers(values.data() + row * width, width, ", ") + "]";
  return text + "]\"";
}

/// Whether the value per atom is the spread of a committee.
bool is_committee(const Shown& shown) {
  return (shown.mode == "force" || shown.mode == "dynamics") && shown.per_atom == 1;
}

void force_entries(std::string& line, const std::string& id, const Shown& shown) {
  const char* names[] = {"_energy=", "_largest_spread=", "_mean_spread=", "_energy_spread="};
  const std::size_t count = is_committee(shown) ? 4 : shown.scalar ? 1 : 0;
  for (std::size_t k = 0; k < std::min(count, shown.vector.size()); ++k) {
    line += " " + id + names[k];
    put(line, shown.vector[k]);
  }
}

void step_entries(std::string& line, const std::string& id, const Shown& shown) {
  if (!is_committee(shown) || shown.vector.size() < 2) return;
  line += " " + id + "_largest_spread=" + numbers(shown.vector.data(), 1);
  line += " " + id + "_mean_spread=" + numbers(shown.vector.data() + 1, 1);
}

void value_entries(std::string& line, const std::string& id, const Shown& shown) {
  const auto spreads = static_cast<std::size_t>(shown.spreads);
  const std::size_t values = shown.vector.size() - spreads;
  if (shown.columns > 0)
    line += " " + id + "=" + matrix(shown.array, shown.columns);
  else if (values > 0)
    line += " " + id + "=" + quoted(numbers(shown.vector.data(), values));
  if (spreads > 0)
    line += " " + id + "_spread=" + quoted(numbers(shown.vector.data() + values, spreads));
}

void other_entries(std::string& line, const std::string& id, const Shown& shown) {
  if (shown.scalar) line += " " + id + "=" + numbers(&*shown.scalar, 1);
  if (!shown.vector.empty()) line += " " + id + "_vector=" + quoted(numbers(shown.vector));
  if (shown.columns > 0) line += " " + id + "_array=" + matrix(shown.array, shown.columns);
}

void entries(std::string& line, const std::string& id, const Shown& shown) {
  if (shown.mode == "force") return force_entries(line, id, shown);
  if (shown.mode == "dynamics") return step_entries(line, id, shown);
  if (shown.mode == "qoi") return value_entries(line, id, shown);
  other_entries(line, id, shown);
}

std::int64_t columns_beside(const std::vector<Shown>& all) {
  std::int64_t count = 0;
  for (const Shown& shown : all) count += shown.per_atom;
  return count;
}

}  // namespace

Record::Record(const RecordWords& words, const Surroundings& around)
    : words_(words), around_(around) {
  needs_.hooks = kSetup | kEndOfStep;
  needs_.v = needs_.f = needs_.types = needs_.unwrapped = needs_.saves = true;
  needs_.beside = words_.from;
  check_elements();
  check_sources();
  if (around_.rank == 0) file_.emplace(words_.file, words_.append);
  if (file_ && file_->removed() > 0)
    around_.warn("'" + words_.file + "' ended in the middle of a frame: " +
                 std::to_string(file_->removed()) + " bytes were removed");
}

void Record::check_elements() const {
  const auto given = static_cast<int>(words_.elements.size());
  if (given > 0 && given != around_.types)
    throw std::runtime_error("keyword 'elements' needs one name for each of the " +
                             std::to_string(around_.types) + " atom types, found " +
                             std::to_string(given));
  if (words_.energy && !around_.all_atoms)
    throw std::runtime_error(
        "keyword 'energy': the potential energy is that of all atoms, so the fix needs the group "
        "all");
}

void Record::check_sources() const {
  bool committee = false;
  for (const std::string& id : words_.from) {
    const Shown shown = around_.fix(id, false);
    committee |= is_committee(shown);
    if (words_.every % shown.every != 0)
      throw std::runtime_error("keyword 'every': fix " + id + " has new values every " +
                               std::to_string(shown.every) + " steps, so " +
                               std::to_string(words_.every) + " must be a multiple of this");
  }
  if (words_.above && !committee)
    throw std::runtime_error(
        "keyword 'above': none of the fixes of 'from' is a fix mlcore force or dynamics with a "
        "committee, whose spread could be compared");
}

// The energy must be asked for at the step before a frame, the first time at setup.
bool Record::acts(const Moment& now) const {
  if (now.minimizing) return false;
  return due(now) || (now.hook == kSetup && words_.energy);
}

void Record::on_whole(const Moment& now, const Configuration& group, Change&) {
  if (now.hook == kSetup) check_forces();
  std::optional<double> energy;
  if (words_.energy)
    energy = around_.potential_energy((now.step / words_.every + 1) * words_.every);
  if (!due(now) || was_written(now, group)) return;
  shown_.clear();
  for (const std::string& id : words_.from) shown_.push_back(around_.fix(id, true));
  if (words_.above && is_known(group)) return;
  if (file_) file_->add(frame(group, header(now, group, energy)));
  ++frames_;
  last_ = now.step;
  last_x_ = group.x;
}

/// At setup fixes act in the order in which they were made; the frame needs the forces of all.
void Record::check_forces() {
  for (const ForceFix& fix : around_.force_fixes()) {
    if (fix.later)
      throw std::runtime_error("fix " + fix.id +
                               " acts on the forces and is made after this fix, which would "
                               "record forces without it: make this fix last");
    if (!fix.style.starts_with("langevin") || warned_) continue;
    around_.warn("the forces recorded hold the drag and the random forces of fix " + fix.id +
                 " (style " + fix.style + "): label the frames anew to learn from them");
    warned_ = true;
  }
}

/// Whether the frame is the last of the run before, with which this run starts, or that of the
/// setup, after which a rerun ends its step.
bool Record::was_written(const Moment& now, const Configuration& group) const {
  if (now.step != last_) return false;
  if (last_x_.empty()) return now.hook == kSetup;
  if (last_x_.size() != group.x.size()) return false;
  for (std::size_t i = 0; i < group.x.size(); ++i)
    if (!(std::abs(group.x[i] - last_x_[i]) <= 1e-9 * (1 + std::abs(last_x_[i])))) return false;
  return true;
}

bool Record::is_known(const Configuration& group) const {
  const std::int64_t width = columns_beside(shown_);
  std::int64_t column = 0;
  double largest = 0;
  for (const Shown& shown : shown_) {
    if (is_committee(shown))
      for (std::int64_t i = 0; i < group.size(); ++i)
        largest = std::max(largest, group.beside[static_cast<std::size_t>(i * width + column)]);
    column += shown.per_atom;
  }
  return !(largest > *words_.above);
}

std::string Record::header(const Moment& now, const Configuration& group,
                           std::optional<double> energy) const {
  std::string line = "Properties=species:S:1:id:I:1:type:I:1:pos:R:3:velo:R:3:forces:R:3";
  for (std::size_t k = 0; k < shown_.size(); ++k)
    if (shown_[k].per_atom > 0)
      line += ":" + words_.from[k] + (is_committee(shown_[k]) ? "_spread" : "") +
              ":R:" + std::to_string(shown_[k].per_atom);
  const auto& cell = group.cell;
  line += " Lattice=" + quoted(numbers(cell.rows.data(), 9)) + " pbc=\"";
  for (int k = 0; k < 3; ++k) line += std::string(k ? " " : "") + (cell.pbc[k] ? "T" : "F");
  line += "\" Origin=" + quoted(numbers(group.origin.data(), 3)) + " units=" + around_.units;
  line += " step=" + std::to_string(now.step) + " time=" + numbers(&now.time, 1) + " unwrapped=T";
  if (energy) line += " energy=" + numbers(&*energy, 1);
  for (std::size_t k = 0; k < shown_.size(); ++k) entries(line, words_.from[k], shown_[k]);
  return line;
}

std::string Record::frame(const Configuration& group, const std::string& header) const {
  const auto n = static_cast<std::size_t>(group.size());
  const auto beside = static_cast<std::size_t>(columns_beside(shown_));
  std::string text = std::to_string(n) + "\n" + header + "\n";
  text.reserve(text.size() + n * (32 + 20 * (9 + beside)));
  const auto add = [&](const std::vector<double>& column, std::size_t width, std::size_t row) {
    for (std::size_t k = 0; k < width; ++k) {
      text += ' ';
      put(text, column[width * row + k]);
    }
  };
  for (std::size_t i = 0; i < n; ++i) {
    const auto type = static_cast<std::size_t>(group.types[i]);
    text += words_.elements.empty() ? "X" : words_.elements[type - 1];
    text += ' ' + std::to_string(group.tags[i]) + ' ' + std::to_string(type);
    add(group.x, 3, i);
    add(group.v, 3, i);
    add(group.f, 3, i);
    add(group.beside, beside, i);
    text += '\n';
  }
  return text;
}

void Record::restore(const std::vector<double>& state) {
  if (state.size() != 1)
    throw std::runtime_error("the restart file holds " + std::to_string(state.size()) +
                             " numbers of this fix, expected 1: it was written by another version");
  last_ = static_cast<std::int64_t>(state[0]);
  last_x_.clear();
}

}  // namespace mlmod
