#include "mlcore/noise.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <sstream>
#include <vector>

#include "kernels/linalg.hpp"
#include "krylov.hpp"
#include "linalg_cuda.hpp"
#include "mlcore/buffer.hpp"
#include "mlcore/linalg.hpp"
#include "noise_cuda.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

constexpr double kFloor = 1e-10;  // smallest eigenvalue after a repair, relative to the largest
constexpr double kSingle = 0x1p-24;
constexpr double kSymmetry = 1e-10, kSingleSymmetry = 1e-5;  // of the largest entry
constexpr double kSingleProducts = 1e-6;                 // of mobility_apply in single precision
constexpr std::int64_t kFormed = std::int64_t{1} << 31;  // bytes of the largest matrix formed
constexpr std::int64_t kCholeskySize = 300;              // 3n up to which Cholesky is taken
constexpr double kCholeskyShare = 45;     // 3n over vectors times digits below which it is
constexpr std::int64_t kBatchSize = 384;  // 3n of configurations worth one thread

struct Extremes {
  double smallest, largest;
};

Extremes extremes(const Context& context, View<const double, 2> M) {
  std::vector<double> copy = cuda::host_copy(context, M), values(M.shape[0]);
  symmetric_eigenvalues(context, {copy.data(), M.shape}, {values.data(), {M.shape[0]}});
  return {values.front(), values.back()};
}

[[noreturn]] void raise_indefinite(const Cell& cell, View<const double, 2> x, Extremes range) {
  std::ostringstream message;
  message.precision(6);
  message << "the mobility matrix is not positive definite: its eigenvalues lie between "
          << range.smallest << " and " << range.largest;
  const ClosestPair pair = x.empty() ? ClosestPair{} : closest_pair(cell, x);
  if (pair.first >= 0) {
    message << "; the closest pair is particles " << pair.first << " and " << pair.second
            << " at the distance " << pair.distance;
  }
  message << "; psd = repair adds a multiple of the unit matrix instead";
  throw NotPositiveDefinite(message.str(), range.smallest, pair.first, pair.second);
}

void add_diagonal(const Context& context, View<double, 2> M, double value) {
  if (M.device == Device::cuda) return cuda::add_to_diagonal(context, M, value);
  for (std::int64_t i = 0; i < M.shape[0]; ++i) M(i, i) += value;
}

void check_repairable(Extremes range) {
  if (range.largest > 0) return;
  throw NotPositiveDefinite("the mobility matrix has no positive eigenvalue; no repair is made",
                            range.smallest);
}

NoiseReport repair(const Context& context, View<double, 2> M, Extremes range) {
  check_repairable(range);
  NoiseReport report;
  report.smallest_eigenvalue = range.smallest;
  double margin = kFloor * range.largest;
  while (true) {
    const double shift = std::max(0.0, margin - range.smallest);
    add_diagonal(context, M, shift - report.shift);
    report.shift = shift;
    if (try_cholesky(context, M)) return report;
    margin *= 10;
  }
}

/// Vectors in CPU memory; what derives from it knows the products.
class HostSpace : public detail::VectorSpace {
 public:
  HostSpace(const Context& context, std::int64_t size, std::int64_t count)
      : VectorSpace(size, count), context_(context) {}

  double* allocate() override {
    blocks_.emplace_back(sizeof(double) * size * count);
    return static_cast<double*>(blocks_.back().data());
  }

  void dots(const Blocks& a, const double* w, double* products) override {
    const auto all = static_cast<std::int64_t>(a.size()) * count;
    const std::int64_t grain = std::max<std::int64_t>(1, kGrain / size);
    detail::parallel_for(context_, all, grain, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t offset = i % count * size;
        products[i] = MLCORE_DISPATCH(dot)(size, a[i / count] + offset, w + offset);
      }
    });
  }

  void combine(const Blocks& a, const double* factors, const double* keep, double* w) override {
    const auto terms = static_cast<std::int64_t>(a.size());
    for (std::int64_t c = 0; c < count; ++c) {
      std::vector<const double*> vectors(terms);
      std::vector<double> own(terms);
      for (std::int64_t k = 0; k < terms; ++k) {
        vectors[k] = a[k] + c * size;
        own[k] = factors[k * count + c];
      }
      const std::int64_t grain = std::max<std::int64_t>(64, kGrain / (terms + 1));
      detail::parallel_for(context_, size, grain, [&](std::int64_t begin, std::int64_t end, int) {
        MLCORE_DISPATCH(combine)
        (begin, end, terms, vectors.data(), own.data(), keep[c], w + c * size);
      });
    }
  }

 protected:
  static constexpr std::int64_t kGrain = 16384;
  const Context context_;

 private:
  std::vector<Buffer> blocks_;
};

/// Of a matrix, read upwards and downwards in turns.
template <class T>
class MatrixSpace : public HostSpace {
 public:
  MatrixSpace(const Context& context, View<const T, 2> M, std::int64_t count)
      : HostSpace(context, M.shape[0], count), matrix_(M) {}

  void apply(const double* in, double* out) override {
    const View<const double, 2> x(in, {count, size});
    symmetric_multiply(context_, matrix_, x, {out, {count, size}}, upwards_);
    upwards_ = !upwards_;
  }

 private:
  View<const T, 2> matrix_;
  bool upwards_ = false;
};

/// Of positions; the matrix is never formed.
class MobilitySpace : public HostSpace {
 public:
  MobilitySpace(const Context& context, const MobilityModel& model, const Cell& cell,
                View<const double, 2> x, std::int64_t count, bool single)
      : HostSpace(context, 3 * x.shape[0], count), model_(model), cell_(cell), x_(x) {
    if (!single) return;
    single_x_.assign(x.begin(), x.end());
    single_in_.resize(size);
    single_out_.resize(size);
  }

  void apply(const double* in, double* out) override {
    for (std::int64_t c = 0; c < count; ++c) apply_one(in + c * size, out + c * size);
  }

 private:
  void apply_one(const double* in, double* out) {
    const std::array<std::int64_t, 2> shape = x_.shape;
    if (single_x_.empty()) {
      mobility_apply(context_, model_, cell_, x_, View<const double, 2>(in, shape),
                     View<double, 2>(out, shape));
      return;
    }
    std::copy_n(in, size, single_in_.begin());
    mobility_apply(context_, model_, cell_, View<const float, 2>(single_x_.data(), shape),
                   View<const float, 2>(single_in_.data(), shape),
                   View<float, 2>(single_out_.data(), shape));
    std::copy_n(single_out_.begin(), size, out);
  }

  const MobilityModel& model_;
  const Cell& cell_;
  View<const double, 2> x_;
  std::vector<float> single_x_, single_in_, single_out_;
};

/// What an error message says of the particles.
struct Particles {
  const Cell& cell;
  View<const double, 2> x;

  static void raise(const void* where, double smallest, double largest) {
    const auto& self = *static_cast<const Particles*>(where);
    raise_indefinite(self.cell, self.x, {smallest, largest});
  }
};

NoiseReport krylov_root(detail::VectorSpace& space, const double* z, double* out,
                        const SqrtOptions& options, double rounding, const Particles& particles) {
  const detail::KrylovOptions krylov{
      options.tolerance, options.max_iterations, options.psd, options.lowest, options.highest,
      rounding,          Particles::raise,       &particles};
  return options.method == SqrtMethod::chebyshev ? chebyshev_root(space, z, out, krylov)
                                                 : lanczos_root(space, z, out, krylov);
}

/// Room for a matrix, from memory that is reused.
template <class T>
struct Matrix {
  Buffer buffer;
  View<T, 2> view;

  explicit Matrix(std::int64_t m)
      : buffer(sizeof(T) * m * m), view(static_cast<T*>(buffer.data()), {m, m}) {}
};

template <class T>
Matrix<T> copy_of(const Context& context, View<const double, 2> M) {
  const std::int64_t m = M.shape[0];
  Matrix<T> copy(m);
  const std::int64_t grain = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(m, 1));
  detail::parallel_for(context, m, grain, [&](std::int64_t begin, std::int64_t end, int) {
    std::copy(M.data + begin * m, M.data + end * m, copy.view.data + begin * m);
  });
  return copy;
}

/// Only what lies on and below the diagonal.
Matrix<float> single_half(const Context& context, View<const double, 2> M) {
  const std::int64_t m = M.shape[0];
  Matrix<float> copy(m);
  detail::parallel_for(context, m, 64, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::copy_n(M.data + i * m, i + 1, copy.view.data + i * m);
    }
  });
  return copy;
}

/// The same numbers in single precision in the memory they are in.
View<float, 2> narrowed(const Context& context, const Matrix<double>& matrix) {
  const std::int64_t m = matrix.view.shape[0];
  auto* const bytes = static_cast<std::byte*>(matrix.buffer.data());
  const std::int64_t width = m * static_cast<std::int64_t>(sizeof(float));
  // Rows begin..2 begin-1 go to where rows were that are done: threads never meet.
  for (std::int64_t first = 0, last = 1; first < m; first = last, last = std::min(m, 2 * last)) {
    detail::parallel_for(context, last - first, 64, [&](std::int64_t begin, std::int64_t end, int) {
      std::vector<float> row(m);
      for (std::int64_t i = first + begin; i < first + end; ++i) {
        std::copy_n(matrix.view.data + i * m, m, row.begin());
        std::memcpy(bytes + i * width, row.data(), width);
      }
    });
  }
  return {static_cast<float*>(matrix.buffer.data()), {m, m}};
}

/// L z in single precision of M, which becomes L; false where it is not positive definite.
bool single_cholesky(const Context& context, View<float, 2> M, View<const double, 2> z,
                     View<double, 2> out, NoiseReport& report) {
  if (!try_cholesky(context, M)) return false;
  lower_multiply(context, View<const float, 2>(M), z, out);
  report.error = kSingle * std::sqrt(static_cast<double>(M.shape[0]));
  return true;
}

void check_options(const SqrtOptions& options) {
  MLCORE_CHECK(options.tolerance >= 1e-14 && options.tolerance <= 0.5,
               "tol must lie in 1e-14..0.5, got ", options.tolerance);
  MLCORE_CHECK(options.max_iterations >= 1, "max_iterations must be at least 1, got ",
               options.max_iterations);
  const bool none = options.lowest == 0 && options.highest == 0;
  MLCORE_CHECK(none || (options.lowest > 0 && options.highest > options.lowest &&
                        std::isfinite(options.highest)),
               "bounds must be 0 < lowest < highest, got ", options.lowest, " and ",
               options.highest);
}

/// The options with the method made out for 3n = m and so many vectors.
SqrtOptions resolved(const SqrtOptions& options, std::int64_t m, std::int64_t vectors) {
  check_options(options);
  SqrtOptions result = options;
  result.method = detail::chosen_method(options, m, vectors);
  return result;
}

/// Of a matrix in CPU memory that is not ours.
NoiseReport root_of_matrix(const Context& context, View<const double, 2> M, View<const double, 2> z,
                           View<double, 2> out, const SqrtOptions& options,
                           const Particles& particles) {
  if (options.method != SqrtMethod::cholesky) {
    if (options.single_precision) {
      const Matrix<float> single = single_half(context, M);
      MatrixSpace<float> space(context, single.view, z.shape[0]);
      return krylov_root(space, z.data, out.data, options, kSingle, particles);
    }
    MatrixSpace<double> space(context, M, z.shape[0]);
    return krylov_root(space, z.data, out.data, options, 0, particles);
  }
  NoiseReport report;
  if (options.single_precision &&
      single_cholesky(context, copy_of<float>(context, M).view, z, out, report)) {
    return report;
  }
  const Matrix<double> factor = copy_of<double>(context, M);
  report = noise_factor(context, particles.cell, particles.x, factor.view, options.psd);
  lower_multiply(context, View<const double, 2>(factor.view), z, out);
  return report;
}

/// Of a mobility in CPU memory, options resolved.
NoiseReport root_of_mobility(const Context& context, const MobilityModel& model, const Cell& cell,
                             View<const double, 2> x, View<const double, 2> z, View<double, 2> out,
                             const SqrtOptions& options) {
  const std::int64_t m = z.shape[1];
  const Particles particles{cell, x};
  const bool krylov = options.method != SqrtMethod::cholesky;
  const bool cheap = cell.is_open() && model.table.cutoff <= 0;
  if (krylov && (cheap || m > kFormed / static_cast<std::int64_t>(sizeof(double)) / m)) {
    MobilitySpace space(context, model, cell, x, z.shape[0], options.single_precision);
    return krylov_root(space, z.data, out.data, options,
                       options.single_precision ? kSingleProducts : 0, particles);
  }
  const Matrix<double> matrix(m);
  mobility_matrix(context, model, cell, x, matrix.view);
  if (options.single_precision) {
    const View<float, 2> single = narrowed(context, matrix);
    if (krylov) {
      MatrixSpace<float> space(context, single, z.shape[0]);
      return krylov_root(space, z.data, out.data, options, kSingle, particles);
    }
    NoiseReport report;
    if (single_cholesky(context, single, z, out, report)) return report;
    mobility_matrix(context, model, cell, x, matrix.view);
  } else if (krylov) {
    return root_of_matrix(context, matrix.view, z, out, options, particles);
  }
  const NoiseReport report = noise_factor(context, cell, x, matrix.view, options.psd);
  lower_multiply(context, View<const double, 2>(matrix.view), z, out);
  return report;
}

/// Squares of the numbers must neither overflow nor vanish.
void check_vectors(View<const double, 2> z) {
  check_finite("z", z);
  for (std::int64_t k = 0; k < z.shape[0]; ++k) {
    double largest = 0;
    for (double number : z[k]) largest = std::max(largest, std::abs(number));
    MLCORE_CHECK(
        largest == 0 || (largest >= 1e-100 && largest <= 1e100), "the largest number of z",
        " must be 0 or lie within 1e-100 .. 1e100 (standard normal numbers do), but that of",
        " vector ", k, " is ", largest);
  }
}

/// Cholesky on the GPU; the factor overwrites M.
NoiseReport gpu_cholesky(const Context& context, View<double, 2> M, View<const double, 2> z,
                         View<double, 2> out, const SqrtOptions& options,
                         const Particles& particles) {
  const std::vector<double> host = cuda::host_copy(context, z);
  check_vectors(View<const double, 2>(host.data(), z.shape));
  const NoiseReport report = noise_factor(context, particles.cell, particles.x, M, options.psd);
  lower_multiply(context, View<const double, 2>(M), z, out);
  return report;
}

void check_gpu(const SqrtOptions& options) {
  MLCORE_CHECK(!options.single_precision,
               "precision float32 runs on the CPU alone; the arrays lie on the GPU");
}

NoiseReport gpu_root_of_mobility(const Context& context, const MobilityModel& model,
                                 const Cell& cell, View<const double, 2> x, View<const double, 2> z,
                                 View<double, 2> out, const SqrtOptions& options) {
  check_gpu(options);
  const Particles particles{cell, x};
  if (options.method != SqrtMethod::cholesky) {
    const auto space = cuda::noise_space(context, model, cell, x, z.shape[0]);
    const std::vector<double> host = cuda::host_copy(context, x);
    return krylov_root(*space, z.data, out.data, options, 0, {cell, {host.data(), x.shape}});
  }
  const std::int64_t m = z.shape[1];
  const std::shared_ptr<double> memory = cuda::noise_memory(context, z.data, m * m);
  const View<double, 2> M(memory.get(), {m, m}, Device::cuda);
  mobility_matrix(context, model, cell, x, M);
  return gpu_cholesky(context, M, z, out, options, particles);
}

NoiseReport gpu_root_of_matrix(const Context& context, View<const double, 2> M,
                               View<const double, 2> z, View<double, 2> out,
                               const SqrtOptions& options, const Particles& particles) {
  check_gpu(options);
  check_symmetric(context, M, kSymmetry);
  if (options.method != SqrtMethod::cholesky) {
    const auto space = cuda::noise_space(context, M, z.shape[0]);
    return krylov_root(*space, z.data, out.data, options, 0, {particles.cell, {}});
  }
  const std::shared_ptr<double> memory = cuda::noise_memory(context, M.data, M.size());
  const View<double, 2> copy(memory.get(), M.shape, Device::cuda);
  cuda::copy_matrix(context, M, copy);
  return gpu_cholesky(context, copy, z, out, options, particles);
}

template <class First, class... Rest>
bool on_gpu(const First& first, const Rest&... rest) {
  const bool gpu = first.device == Device::cuda;
  MLCORE_CHECK(((rest.device == first.device) && ...),
               "all arrays must live on the same device, but one is on ",
               gpu ? "the GPU" : "the CPU", " and another one is not");
  return gpu;
}

NoiseReport checked_root(const Context& context, const MobilityModel& model, const Cell& cell,
                         View<const double, 2> x, View<const double, 3> z, View<double, 3> out,
                         const SqrtOptions& options) {
  const std::int64_t n = x.shape[0], m = 3 * n, count = z.shape[0];
  const SqrtOptions chosen = resolved(options, m, count);
  if (z.empty()) return {};
  const View<const double, 2> in(z.data, {count, m}, z.device);
  const View<double, 2> result(out.data, {count, m}, out.device);
  if (on_gpu(x, z, out)) return gpu_root_of_mobility(context, model, cell, x, in, result, chosen);
  check_vectors(in);
  return root_of_mobility(context, model, cell, x, in, result, chosen);
}

}  // namespace

SqrtMethod detail::chosen_method(const SqrtOptions& options, std::int64_t m, std::int64_t vectors) {
  if (options.method != SqrtMethod::automatic) return options.method;
  const double digits = -std::log10(options.tolerance) * static_cast<double>(vectors);
  const bool direct = m <= kCholeskySize || kCholeskyShare * digits > static_cast<double>(m);
  return direct ? SqrtMethod::cholesky : SqrtMethod::lanczos;
}

ClosestPair closest_pair(const Cell& cell, View<const double, 2> x) {
  MLCORE_CHECK(x.shape[1] == 3, "x must have the shape (n, 3), got (", x.shape[0], ", ", x.shape[1],
               ")");
  const Cell full = completed(cell);
  const auto inverse_rows = inverse(full.rows);
  ClosestPair best;
  double best_square = std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (std::int64_t j = i + 1; j < x.shape[0]; ++j) {
      double d[3] = {x(j, 0) - x(i, 0), x(j, 1) - x(i, 1), x(j, 2) - x(i, 2)};
      wrap_displacement(full, inverse_rows, d);
      // In a skewed cell the nearest image may be a neighbour of the wrapped one.
      for (int image = 0; image < 27; ++image) {
        const int shift[3] = {image / 9 - 1, image / 3 % 3 - 1, image % 3 - 1};
        double square = 0;
        bool allowed = true;
        for (int axis = 0; axis < 3; ++axis) allowed &= shift[axis] == 0 || full.pbc[axis];
        for (int k = 0; k < 3; ++k) {
          const double component = d[k] + shift[0] * full.rows[k] + shift[1] * full.rows[3 + k] +
                                   shift[2] * full.rows[6 + k];
          square += component * component;
        }
        if (allowed && square < best_square) {
          best_square = square;
          best = {i, j, std::sqrt(square)};
        }
      }
    }
  }
  return best;
}

NoiseReport noise_factor(const Context& context, const Cell& cell, View<const double, 2> x,
                         View<double, 2> M, Indefinite policy) {
  MLCORE_CHECK(x.empty() || (x.shape[1] == 3 && 3 * x.shape[0] == M.shape[0]),
               "x must have the shape (n, 3) with 3n = ", M.shape[0], ", got (", x.shape[0], ", ",
               x.shape[1], ")");
  if (try_cholesky(context, M)) return {};
  const Extremes range = extremes(context, M);
  if (policy == Indefinite::error) {
    const std::vector<double> positions = cuda::host_copy(context, x);
    raise_indefinite(cell, {positions.data(), x.shape}, range);
  }
  return repair(context, M, range);
}

NoiseReport sqrt_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                       View<const double, 2> x, View<const double, 3> z, View<double, 3> out,
                       const SqrtOptions& options) {
  const std::int64_t n = x.shape[0];
  MLCORE_CHECK(z.shape == out.shape && z.shape[1] == n && z.shape[2] == 3,
               "z and out must have the shape (k, n, 3) with n = ", n, ", got (", z.shape[0], ", ",
               z.shape[1], ", ", z.shape[2], ") and (", out.shape[0], ", ", out.shape[1], ", ",
               out.shape[2], ")");
  return checked_root(context, model, cell, x, z, out, options);
}

NoiseReport sqrt_apply(const Context& context, View<const double, 2> M, View<const double, 2> z,
                       View<double, 2> out, const SqrtOptions& options, const Cell& cell,
                       View<const double, 2> x) {
  const std::int64_t m = M.shape[0];
  MLCORE_CHECK(M.shape[1] == m, "the matrix must be square, got the shape (", m, ", ", M.shape[1],
               ")");
  MLCORE_CHECK(z.shape == out.shape && z.shape[1] == m, "z and out must have the shape (k, ", m,
               "), got (", z.shape[0], ", ", z.shape[1], ") and (", out.shape[0], ", ",
               out.shape[1], ")");
  MLCORE_CHECK(x.empty() || (x.shape[1] == 3 && 3 * x.shape[0] == m),
               "x must have the shape (n, 3) with 3n = ", m, ", got (", x.shape[0], ", ",
               x.shape[1], ")");
  const SqrtOptions chosen = resolved(options, m, z.shape[0]);
  if (z.empty()) return {};
  const Particles particles{cell, x};
  if (on_gpu(M, z, out)) return gpu_root_of_matrix(context, M, z, out, chosen, particles);
  check_vectors(z);
  check_symmetric(context, M, options.single_precision ? kSingleSymmetry : kSymmetry);
  return root_of_matrix(context, M, z, out, chosen, particles);
}

std::vector<NoiseReport> sqrt_apply(const Context& context, const MobilityModel& model,
                                    const Cell& cell, View<const double, 3> x,
                                    View<const double, 4> z, View<double, 4> out,
                                    const SqrtOptions& options) {
  const std::int64_t batch = x.shape[0], n = x.shape[1];
  MLCORE_CHECK(z.shape == out.shape && z.shape[0] == batch && z.shape[2] == n && z.shape[3] == 3,
               "z and out must have the shape (B, k, n, 3) with B = ", batch, " and n = ", n,
               ", got (", z.shape[0], ", ", z.shape[1], ", ", z.shape[2], ", ", z.shape[3], ")");
  std::vector<NoiseReport> reports(batch);
  const auto one = [&](std::int64_t b) {
    reports[b] = checked_root(context, model, cell, x[b], z[b], out[b], options);
  };
  if (x.device == Device::cuda || 3 * n > kBatchSize) {  // the threads work on one after the other
    for (std::int64_t b = 0; b < batch; ++b) one(b);
    return reports;
  }
  detail::parallel_for(context, batch, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) one(b);
  });
  return reports;
}

}  // namespace mlcore
