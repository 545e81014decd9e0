#include "legacy_qoi.h"

#include <tinyxml2.h>

#include <cstdio>
#include <stdexcept>

#include "text_file.h"

namespace mlmod {

namespace {

const char* hook_name(Hook hook) {
  if (hook == kInitialIntegrate) return "initial_integrate";
  return hook == kPostForce ? "post_force" : "final_integrate";
}

std::string numbers(const std::vector<float>& values) {
  std::string text;
  char digits[32];
  for (const float value : values) {
    std::snprintf(digits, sizeof digits, "%.9g", static_cast<double>(value));
    text += (text.empty() ? "" : " ") + std::string(digits);
  }
  return text;
}

std::string shape(std::int64_t rows, std::int64_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

}  // namespace

LegacyValues::LegacyValues(const Choices& choices)
    : model_("qoi_filename", choices.path), choices_(choices) {
  needs_.hooks = kCreation | kSetup | choices.hooks;
  needs_.local_order = choices.legacy;
  choices_.mask.ask(needs_);
  if (choices_.writes) make_folder(choices_.base_folder);
}

Output LegacyValues::output() const {
  return {.rows = static_cast<int>(rows_), .columns = static_cast<int>(columns_), .array = true};
}

bool LegacyValues::acts(const Moment& now) const {
  if (now.hook == kCreation) return true;
  if (now.hook == kSetup) return !choices_.legacy;
  return now.step % choices_.every == 0;
}

void LegacyValues::on_whole(const Moment& now, const Configuration& group, Change&) {
  if (group.size() == 0) return;
  whole_column(choices_.mask, group, now.time, input_);
  std::int64_t rows = 0, columns = 0;
  const float* output = model_.evaluate_matrix(input_, rows, columns);
  check_shape(now, rows, columns);
  rows_ = rows;
  columns_ = columns;
  if (now.hook == kCreation) return;  // forces are not known yet: the shape is what counts
  check_finite(output);
  values_.assign(output, output + rows * columns);
  if (choices_.writes && now.hook != kSetup) write(now);
}

void LegacyValues::check_shape(const Moment& now, std::int64_t rows, std::int64_t columns) const {
  if (rows == 0 || columns == 0)
    throw std::runtime_error(model_.label() + ": returns shape " + shape(rows, columns) +
                             ", expected at least one row and one column");
  const bool fixed = now.hook != kCreation && now.hook != kSetup && rows_ > 0;
  if (fixed && (rows != rows_ || columns != columns_))
    throw std::runtime_error(model_.label() + ": returns shape " + shape(rows, columns) +
                             ", expected " + shape(rows_, columns_) +
                             " as at the start of the run");
}

void LegacyValues::check_finite(const float* output) const {
  const std::int64_t bad = TorchScriptModel::first_bad_row(output, rows_ * columns_, 1);
  if (bad >= 0)
    throw std::runtime_error(model_.label() + ": output [" + std::to_string(bad / columns_) + "][" +
                             std::to_string(bad % columns_) + "] is not finite");
}

void LegacyValues::write(const Moment& now) const {
  tinyxml2::XMLPrinter printer;
  printer.PushHeader(false, true);
  printer.OpenElement("MLMOD");
  const auto tag = [&](const char* name, const std::string& value) {
    printer.OpenElement(name);
    printer.PushAttribute("value", value.c_str());
    printer.CloseElement();
  };
  tag("base_name", choices_.base_name);
  tag("num_rows", std::to_string(rows_));
  tag("num_cols", std::to_string(columns_));
  tag("data", numbers(values_));
  printer.CloseElement();
  char place[96];
  std::snprintf(place, sizeof place, "__%s__0_%08lld.xml", hook_name(now.hook),
                static_cast<long long>(now.step));
  write_file(choices_.base_folder + "/" + choices_.base_name + place, printer.CStr());
}

double LegacyValues::array(int row, int column) const {
  const auto place = static_cast<std::size_t>(row * columns_ + column);
  return place < values_.size() ? static_cast<double>(values_[place]) : 0.0;
}

}  // namespace mlmod
