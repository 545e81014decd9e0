#include "pair_models.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <utility>

#include "pair_geometry.h"

namespace mlmod {

namespace {

constexpr std::int64_t kSamples = 16;

/// Positions inside the box (or a unit box around the origin when it is open), `per_row` of them
/// in each of 16 rows.
std::vector<float> sample_inputs(const mlcore::Cell& cell, const std::vector<double>& origin,
                                 int per_row) {
  const mlcore::Cell box = mlcore::completed(cell);
  std::mt19937 generator(1);
  std::uniform_real_distribution<double> uniform(0.02, 0.98);
  std::vector<float> samples;
  for (std::int64_t i = 0; i < kSamples * per_row; ++i) {
    const double s[3] = {uniform(generator), uniform(generator), uniform(generator)};
    for (int k = 0; k < 3; ++k)
      samples.push_back(static_cast<float>(origin[k] + s[0] * box.rows[k] + s[1] * box.rows[3 + k] +
                                           s[2] * box.rows[6 + k]));
  }
  return samples;
}

/// Copies the upper triangle to the lower one, tile by tile.
void mirror_upper(std::int64_t width, double* m) {
  constexpr std::int64_t tile = 32;
  for (std::int64_t row = 0; row < width; row += tile)
    for (std::int64_t column = 0; column <= row; column += tile)
      for (std::int64_t i = row; i < std::min(row + tile, width); ++i)
        for (std::int64_t j = column; j < std::min(column + tile, i); ++j)
          m[i * width + j] = m[j * width + i];
}

double asymmetry(const float* b) {
  double difference = 0, scale = 0;
  for (int d = 0; d < 3; ++d)
    for (int k = 0; k < 3; ++k) {
      difference = std::max(difference, std::fabs(double(b[3 * d + k]) - b[3 * k + d]));
      scale = std::max(scale, std::fabs(double(b[3 * d + k])));
    }
  return scale > 0 ? difference / scale : 0;
}

}  // namespace

PairModels::PairModels(const std::string& m_ii, const std::string& m_ij, const mlcore::Cell& cell,
                       const std::vector<double>& origin, Warn warn)
    : self_("M_ii_filename", m_ii), pair_("M_ij_filename", m_ij), warn_(std::move(warn)) {
  prepare(self_, sample_inputs(cell, origin, 1));
  prepare(pair_, sample_inputs(cell, origin, 2));
}

void PairModels::prepare(TorchScriptModel& model, const std::vector<float>& samples) {
  const std::string reason = model.prepare_batches(samples, kSamples, 9);
  if (!reason.empty())
    warn_(model.label() + " is called one input at a time, which is slow: " + reason);
}

void PairModels::evaluate(const Configuration& configuration) {
  n_ = configuration.size();
  fill_inputs(configuration);
  evaluate_self(configuration);
  evaluate_pairs(configuration);
}

void PairModels::fill_inputs(const Configuration& configuration) {
  const std::vector<double>& x = configuration.x;
  const MinimumImage nearest(configuration.cell);
  self_input_.assign(x.begin(), x.end());
  pair_input_.resize(static_cast<std::size_t>(3 * n_ * (n_ - 1)));
  float* out = pair_input_.data();
  for (std::int64_t i = 0; i < n_; ++i) {
    const double* a = x.data() + 3 * i;
    for (std::int64_t j = i + 1; j < n_; ++j, out += 6) {
      const double* b = x.data() + 3 * j;
      double d[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
      nearest(d);
      for (int k = 0; k < 3; ++k) {
        out[k] = static_cast<float>(a[k]);
        out[3 + k] = static_cast<float>(a[k] + d[k]);
      }
    }
  }
}

void PairModels::evaluate_self(const Configuration& configuration) {
  const float* blocks = self_.evaluate(self_input_, n_, 9);
  const std::int64_t bad = TorchScriptModel::first_bad_row(blocks, n_, 9);
  if (bad >= 0)
    throw std::runtime_error(self_.label() + ": output for atom " +
                             std::to_string(configuration.tags[bad]) + " is not finite");
  self_blocks_.resize(static_cast<std::size_t>(9 * n_));
  for (std::int64_t i = 0; i < n_; ++i) {
    const float* b = blocks + 9 * i;
    if (!warned_asymmetry_ && asymmetry(b) > 1e-4) {
      warned_asymmetry_ = true;
      warn_(self_.label() + ": output for atom " + std::to_string(configuration.tags[i]) +
            " is not symmetric; its symmetric part is used");
    }
    for (int d = 0; d < 3; ++d)
      for (int k = 0; k < 3; ++k)
        self_blocks_[9 * i + 3 * d + k] = 0.5 * (double(b[3 * d + k]) + double(b[3 * k + d]));
  }
}

void PairModels::evaluate_pairs(const Configuration& configuration) {
  const std::int64_t pairs = n_ * (n_ - 1) / 2;
  pair_blocks_ = pair_.evaluate(pair_input_, pairs, 9);
  std::int64_t bad = TorchScriptModel::first_bad_row(pair_blocks_, pairs, 9);
  if (bad < 0) return;
  std::int64_t i = 0;
  for (; bad >= n_ - 1 - i; ++i) bad -= n_ - 1 - i;
  throw std::runtime_error(pair_.label() + ": output for atoms " +
                           std::to_string(configuration.tags[i]) + " and " +
                           std::to_string(configuration.tags[i + 1 + bad]) + " is not finite");
}

void PairModels::apply(const std::vector<double>& f, std::vector<double>& v) {
  v.assign(static_cast<std::size_t>(3 * n_), 0.0);
  const float* b = pair_blocks_;
  for (std::int64_t i = 0; i < n_; ++i) {
    const double* m = self_blocks_.data() + 9 * i;
    const double* fi = f.data() + 3 * i;
    double sum[3];
    for (int d = 0; d < 3; ++d)
      sum[d] = m[3 * d] * fi[0] + m[3 * d + 1] * fi[1] + m[3 * d + 2] * fi[2];
    for (std::int64_t j = i + 1; j < n_; ++j, b += 9) {
      const double* fj = f.data() + 3 * j;
      double* vj = v.data() + 3 * j;
      for (int d = 0; d < 3; ++d) {
        sum[d] += b[3 * d] * fj[0] + b[3 * d + 1] * fj[1] + b[3 * d + 2] * fj[2];
        vj[d] += b[d] * fi[0] + b[3 + d] * fi[1] + b[6 + d] * fi[2];
      }
    }
    for (int d = 0; d < 3; ++d) v[3 * i + d] += sum[d];
  }
}

void PairModels::matrix(std::vector<double>& m) {
  const std::int64_t width = 3 * n_;
  m.resize(static_cast<std::size_t>(width * width));
  const float* b = pair_blocks_;
  for (std::int64_t i = 0; i < n_; ++i) {
    double* rows = m.data() + 3 * i * width;
    for (int d = 0; d < 3; ++d)
      for (int k = 0; k < 3; ++k) rows[d * width + 3 * i + k] = self_blocks_[9 * i + 3 * d + k];
    for (std::int64_t j = i + 1; j < n_; ++j, b += 9)
      for (int d = 0; d < 3; ++d)
        for (int k = 0; k < 3; ++k) rows[d * width + 3 * j + k] = b[3 * d + k];
  }
  mirror_upper(width, m.data());
}

}  // namespace mlmod
