#include "whole_model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace mlmod {

WholeModel::WholeModel(const std::string& path, std::function<void(const std::string&)> warn)
    : model_("M_filename", path), warn_(std::move(warn)) {}

void WholeModel::evaluate(const Configuration& configuration) {
  const std::int64_t n = configuration.size();
  matrix_.resize(static_cast<std::size_t>(9 * n * n));
  if (n == 0) return;
  input_.assign(configuration.x.begin(), configuration.x.end());
  const float* output = model_.evaluate(input_, 1, 9 * n * n);
  const std::int64_t bad = TorchScriptModel::first_bad_row(output, 9 * n * n, 1);
  if (bad >= 0)
    throw std::runtime_error(
        model_.label() + ": output for atoms " + std::to_string(configuration.tags[bad / (9 * n)]) +
        " and " + std::to_string(configuration.tags[bad % (3 * n) / 3]) + " is not finite");
  symmetrize(output);
}

void WholeModel::symmetrize(const float* output) {
  const auto width = static_cast<std::int64_t>(input_.size());
  double difference = 0, scale = 0;
  for (std::int64_t i = 0; i < width; ++i)
    for (std::int64_t j = 0; j <= i; ++j) {
      const double a = output[i * width + j], b = output[j * width + i];
      difference = std::max(difference, std::fabs(a - b));
      scale = std::max(scale, std::fabs(a));
      matrix_[i * width + j] = matrix_[j * width + i] = 0.5 * (a + b);
    }
  if (warned_asymmetry_ || difference <= 1e-4 * scale) return;
  warned_asymmetry_ = true;
  warn_(model_.label() + ": the matrix is not symmetric; its symmetric part is used");
}

void WholeModel::apply(const std::vector<double>& f, std::vector<double>& v) {
  const std::size_t width = f.size();
  v.assign(width, 0.0);
  for (std::size_t i = 0; i < width; ++i)
    for (std::size_t j = 0; j < width; ++j) v[j] += matrix_[i * width + j] * f[i];
}

void WholeModel::matrix(std::vector<double>& m) { m = matrix_; }

}  // namespace mlmod
