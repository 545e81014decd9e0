#include "krylov.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "lapack.hpp"

namespace mlcore::detail {
namespace {

constexpr double kBreakdown = 1e-13;  // of the largest coefficient: the Krylov space is complete
constexpr double kFloor = 1e-10;      // smallest eigenvalue after a repair, of the largest
constexpr double kNegative = 1e-12;   // a Ritz value below minus this times the largest counts

/// The tridiagonal matrix of one vector.
struct Tridiagonal {
  double norm = 0;  ///< of the vector
  std::vector<double> diagonal, off;
  bool complete = false;  ///< the Krylov space holds all there is
};

/// Eigenvalues of a tridiagonal matrix and what is needed of its eigenvectors.
struct Ritz {
  std::vector<double> values, vectors;  ///< ascending; one after the other
  double last_off = 0;

  std::int64_t size() const { return static_cast<std::int64_t>(values.size()); }
  double residual(std::int64_t k) const {
    return std::fabs(last_off * vectors[k * size() + size() - 1]);
  }
};

Ritz ritz_of(const Tridiagonal& t) {
  Ritz ritz;
  ritz.values = t.diagonal;
  const int n = static_cast<int>(t.diagonal.size());
  if (n == 0) return ritz;
  ritz.last_off = t.complete ? 0.0 : t.off.back();
  ritz.vectors.resize(static_cast<std::size_t>(n) * n);
  std::vector<double> off(t.off.begin(), t.off.end() - 1);
  off.push_back(0.0);
  const int lwork = 1 + 4 * n + n * n, liwork = 3 + 5 * n;
  std::vector<double> work(lwork);
  std::vector<int> iwork(liwork);
  int info = 0;
  prepare_lapack();
  MLCORE_LAPACK(dstevd_)
  ("V", &n, ritz.values.data(), off.data(), ritz.vectors.data(), &n, work.data(), &lwork,
   iwork.data(), &liwork, &info, 1);
  if (info != 0) raise<Error>("LAPACK dstevd did not converge (info = ", info, ")");
  return ritz;
}

/// norm (T + shift I)^(1/2) e_1
std::vector<double> root_coefficients(const Ritz& ritz, double norm, double shift) {
  const std::int64_t n = ritz.size();
  std::vector<double> c(n, 0.0);
  for (std::int64_t k = 0; k < n; ++k) {
    const double* vector = ritz.vectors.data() + k * n;
    const double weight = norm * vector[0] * std::sqrt(std::max(0.0, ritz.values[k] + shift));
    for (std::int64_t i = 0; i < n; ++i) c[i] += weight * vector[i];
  }
  return c;
}

double norm_of(const std::vector<double>& c) {
  return std::sqrt(std::inner_product(c.begin(), c.end(), c.begin(), 0.0));
}

/// |now - before| / |now|; `before` may be shorter.
double relative_change(const std::vector<double>& now, const std::vector<double>& before) {
  double square = 0;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const double d = now[i] - (i < before.size() ? before[i] : 0.0);
    square += d * d;
  }
  const double norm = norm_of(now);
  return norm > 0 ? std::sqrt(square) / norm : 0.0;
}

/// Orthonormal bases of the Krylov spaces of several vectors.
class Lanczos {
 public:
  Lanczos(VectorSpace& space, const double* z) : space_(space), columns_(space.count) {
    const std::int64_t count = space.count;
    std::vector<double> squares(count), factors(count), none(count, 0.0);
    space.dots({z}, z, squares.data());
    for (std::int64_t c = 0; c < count; ++c) {
      columns_[c].norm = std::sqrt(squares[c]);
      columns_[c].complete = squares[c] == 0;
      factors[c] = squares[c] > 0 ? 1 / columns_[c].norm : 0.0;
    }
    double* v = space.allocate();
    space.combine({z}, factors.data(), none.data(), v);
    basis_.push_back(v);
  }

  /// One more vector for every basis.
  void step() {
    const std::int64_t count = space_.count, last = steps();
    std::vector<double> alpha(count, 0.0), products(count * (last + 1)), ones(count, 1.0);
    double* w = space_.allocate();
    space_.apply(basis_.back(), w);
    for (int pass = 0; pass < 2; ++pass) {  // twice is enough (Giraud et al. 2005)
      space_.dots(basis_, w, products.data());
      for (std::int64_t c = 0; c < count; ++c) alpha[c] += products[last * count + c];
      for (double& p : products) p = -p;
      space_.combine(basis_, products.data(), ones.data(), w);
    }
    std::vector<double> squares(count), scale(count);
    space_.dots({w}, w, squares.data());
    for (std::int64_t c = 0; c < count; ++c) {
      scale[c] = extend(columns_[c], alpha[c], std::sqrt(squares[c]));
    }
    space_.combine({}, nullptr, scale.data(), w);
    basis_.push_back(w);
    ++steps_;
  }

  std::int64_t steps() const { return steps_; }
  const std::vector<Tridiagonal>& columns() const { return columns_; }
  bool complete() const {
    return std::all_of(columns_.begin(), columns_.end(),
                       [](const Tridiagonal& t) { return t.complete; });
  }

  /// out[c] = sum_i coefficients[c][i] v_i[c]
  void combine(const std::vector<std::vector<double>>& coefficients, double* out) const {
    const std::int64_t count = space_.count;
    std::vector<double> factors(steps_ * count, 0.0), none(count, 0.0);
    for (std::int64_t c = 0; c < count; ++c) {
      for (std::size_t i = 0; i < coefficients[c].size(); ++i) {
        factors[i * count + c] = coefficients[c][i];
      }
    }
    const VectorSpace::Blocks used(basis_.begin(), basis_.begin() + steps_);
    space_.combine(used, factors.data(), none.data(), out);
  }

 private:
  /// Returns what the next basis vector is to be multiplied by.
  static double extend(Tridiagonal& t, double alpha, double beta) {
    MLCORE_CHECK(std::isfinite(alpha) && std::isfinite(beta),
                 "the matrix must be finite, but a product with it is not");
    if (t.complete) return 0;
    t.diagonal.push_back(alpha);
    t.off.push_back(beta);
    double largest = 0;
    for (double a : t.diagonal) largest = std::max(largest, std::fabs(a));
    for (double b : t.off) largest = std::max(largest, b);
    t.complete = beta <= kBreakdown * largest;
    return t.complete ? 0.0 : 1 / beta;
  }

  VectorSpace& space_;
  std::vector<Tridiagonal> columns_;
  VectorSpace::Blocks basis_;
  std::int64_t steps_ = 0;
};

/// What the Ritz values of all columns say of the spectrum.
struct Spectrum {
  double lowest = std::numeric_limits<double>::infinity(), highest = 0;
  double lowest_residual = 0, highest_residual = 0;

  explicit Spectrum(const std::vector<Ritz>& all) {
    for (const Ritz& ritz : all) {
      if (ritz.size() == 0) continue;
      if (ritz.values.front() < lowest) {
        lowest = ritz.values.front();
        lowest_residual = ritz.residual(0);
      }
      if (ritz.values.back() > highest) {
        highest = ritz.values.back();
        highest_residual = ritz.residual(ritz.size() - 1);
      }
    }
    if (lowest > highest) lowest = highest = 0;  // every vector is zero
  }

  bool indefinite(double rounding) const {
    return lowest < -std::max(kNegative, rounding) * std::max(highest, -lowest);
  }
  /// What makes the matrix positive definite.
  double shift() const { return kFloor * highest - (lowest - lowest_residual); }
};

std::vector<Ritz> all_ritz(const Lanczos& lanczos) {
  std::vector<Ritz> result;
  for (const Tridiagonal& t : lanczos.columns()) result.push_back(ritz_of(t));
  return result;
}

/// A number that has stopped to move, within `tolerance` of itself, twice in a row.
class Settled {
 public:
  explicit Settled(double tolerance) : tolerance_(tolerance) {}
  bool operator()(double value) {
    const bool calm = std::fabs(value - last_) <= tolerance_ * std::fabs(value);
    last_ = value;
    times_ = calm ? times_ + 1 : 0;
    return times_ >= 2;
  }

 private:
  double tolerance_;
  double last_ = std::numeric_limits<double>::infinity();
  int times_ = 0;
};

[[noreturn]] void raise_indefinite(const KrylovOptions& options, const Spectrum& spectrum) {
  options.raise(options.where, spectrum.lowest, spectrum.highest);
  throw NotPositiveDefinite("the matrix is not positive definite", spectrum.lowest);
}

void check_repairable(const Spectrum& spectrum) {
  if (spectrum.highest > 0) return;
  throw NotPositiveDefinite("the mobility matrix has no positive eigenvalue; no repair is made",
                            spectrum.lowest);
}

/// Relative error of M^(1/2) z from products that are off by `rounding` times the largest
/// eigenvalue: |dS| <= |dM| / (2 sqrt(smallest)).
double rounding_error(const KrylovOptions& options, const Spectrum& spectrum, double shift) {
  const double smallest = std::max(spectrum.lowest + shift, options.rounding * spectrum.highest);
  if (options.rounding == 0 || smallest <= 0) return 0;
  return options.rounding * spectrum.highest / (2 * smallest);
}

}  // namespace

NoiseReport lanczos_root(VectorSpace& space, const double* z, double* out,
                         const KrylovOptions& options) {
  Lanczos lanczos(space, z);
  std::vector<std::vector<double>> roots(space.count), before(space.count);
  Settled settled(1e-3);
  NoiseReport report;
  report.method = "lanczos";
  while (true) {
    lanczos.step();
    const std::int64_t steps = lanczos.steps();
    const bool last = lanczos.complete() || steps >= options.max_iterations;
    // The tridiagonal problem costs steps^3: look less often in the long run.
    if (!last && steps % (1 + steps / 32) != 0) continue;
    const std::vector<Ritz> ritz = all_ritz(lanczos);
    const Spectrum spectrum(ritz);
    const bool indefinite = spectrum.indefinite(options.rounding);
    if (indefinite && options.psd == Indefinite::repair) {
      report.shift = spectrum.shift();
    }
    double change = 0;
    for (std::int64_t c = 0; c < space.count; ++c) {
      roots[c] = root_coefficients(ritz[c], lanczos.columns()[c].norm, report.shift);
      if (!lanczos.columns()[c].complete) {
        change = std::max(change, relative_change(roots[c], before[c]));
      }
    }
    before = roots;
    const bool known = !indefinite || settled(spectrum.lowest) || lanczos.complete();
    report.iterations = steps;
    report.smallest_ritz = spectrum.lowest;
    if (indefinite && (known || last)) {
      if (options.psd == Indefinite::error) raise_indefinite(options, spectrum);
      check_repairable(spectrum);
    }
    if (known && change <= options.tolerance) {
      if (report.shift > 0) report.smallest_eigenvalue = spectrum.lowest;
      report.error = change + rounding_error(options, spectrum, report.shift);
      break;
    }
    if (last) {
      detail::raise<Error>("Lanczos' method did not reach tol = ", options.tolerance, " in ", steps,
                           " iterations: the result still changes by ", change,
                           " of itself; the smallest Ritz value is ", spectrum.lowest,
                           ", the largest ", spectrum.highest);
    }
  }
  lanczos.combine(roots, out);
  return report;
}

namespace {

/// An interval the spectrum lies in.
struct Interval {
  double low, high;
};

/// c_k of sqrt(x) = sum_k c_k T_k on an interval, as many as the interval may need.
std::vector<double> root_series(Interval range, double tolerance) {
  const double condition = std::sqrt(range.high / range.low);
  const double wanted = 64 + condition * std::log(10 / tolerance);
  const auto terms = static_cast<std::int64_t>(std::min(wanted, 8192.0));
  const std::int64_t samples = 2 * terms;
  std::vector<double> series(terms, 0.0);
  for (std::int64_t j = 0; j < samples; ++j) {
    const double theta = std::numbers::pi * (j + 0.5) / samples;
    const double x = std::cos(theta), y = std::sin(theta);
    const double value = std::sqrt((range.high + range.low) / 2 + (range.high - range.low) / 2 * x);
    double cosine = 1, sine = 0;  // of k theta
    for (std::int64_t k = 0; k < terms; ++k) {
      series[k] += 2.0 / samples * value * cosine;
      const double next = cosine * x - sine * y;
      sine = sine * x + cosine * y;
      cosine = next;
    }
  }
  series[0] /= 2;
  return series;
}

/// The degree from which the rest of a series is below `error`, and that rest; -1: none.
struct Cut {
  std::int64_t degree;
  double rest;
};

Cut cut_series(const std::vector<double>& series, double error) {
  double rest = 0;
  for (auto k = static_cast<std::int64_t>(series.size()) - 1; k > 0; --k) {
    const double more = rest + std::fabs(series[k]);
    if (more > error) return {k, rest};
    rest = more;
  }
  return {1, rest};
}

/// Bounds of the spectrum from a few Lanczos steps, and the shift of a repair. The extreme Ritz
/// values are off by less than `blur` of themselves.
Interval estimated_bounds(VectorSpace& space, const double* z, const KrylovOptions& options,
                          double blur, NoiseReport& report) {
  constexpr std::int64_t kFewest = 10, kMost = 200;
  Lanczos lanczos(space, z);
  while (true) {
    lanczos.step();
    const Spectrum spectrum(all_ritz(lanczos));
    // The interval may be somewhat wide; an eigenvalue that goes into a message or a shift not.
    const bool indefinite = spectrum.indefinite(options.rounding);
    const double allowed = indefinite ? std::min(blur, 1e-3) : blur;
    const bool sharp = spectrum.lowest_residual <= allowed * std::fabs(spectrum.lowest) &&
                       spectrum.highest_residual <= allowed / 6 * spectrum.highest;
    const bool enough = sharp && lanczos.steps() >= kFewest;
    if (!enough && !lanczos.complete() && lanczos.steps() < kMost) continue;
    report.smallest_ritz = spectrum.lowest;
    if (indefinite) {
      if (options.psd == Indefinite::error) raise_indefinite(options, spectrum);
      check_repairable(spectrum);
      report.shift = spectrum.shift();
      report.smallest_eigenvalue = spectrum.lowest;
    }
    const double lowest = spectrum.lowest + report.shift;
    return {0.9 * std::max(lowest - spectrum.lowest_residual, lowest / 4),
            1.01 * (spectrum.highest + report.shift) + spectrum.highest_residual};
  }
}

/// How a sum of Chebyshev polynomials came out.
struct Sum {
  std::int64_t degree;
  double error;  ///< relative
  bool inside;   ///< no polynomial exceeded 1: the interval holds the spectrum
};

Sum chebyshev_sum(VectorSpace& space, const double* z, double* out, Interval range, double shift,
                  const KrylovOptions& options) {
  const std::int64_t count = space.count;
  const std::vector<double> zeros(count, 0.0), ones(count, 1.0);
  const auto all = [&](double value) { return std::vector<double>(count, value); };
  const double scale = 2 / (range.high - range.low);
  // w = (2 (M + shift) - high - low) / (high - low) v
  const auto map = [&](const double* v, double* w, double factor) {
    space.apply(v, w);
    space.combine({v}, all(factor * (scale * shift - scale * (range.high + range.low) / 2)).data(),
                  all(factor * scale).data(), w);
  };
  std::vector<double> norms(count), products(count), squares(count);
  double* t[3] = {space.allocate(), space.allocate(), space.allocate()};
  space.dots({z}, z, norms.data());
  space.combine({z}, ones.data(), zeros.data(), t[0]);
  map(t[0], t[1], 1);
  space.dots({z}, t[1], products.data());
  // |M^(1/2) z|^2 = z.M z tells the scale of the result before it is known.
  double smallest = std::numeric_limits<double>::infinity();
  std::vector<double> targets(count, 0.0);
  for (std::int64_t c = 0; c < count; ++c) {
    targets[c] = products[c] / scale + norms[c] * (range.high + range.low) / 2;
    if (norms[c] > 0) smallest = std::min(smallest, std::max(0.0, targets[c]) / norms[c]);
  }
  if (std::isinf(smallest)) smallest = range.low;
  const double allowed = options.tolerance * std::sqrt(std::max(smallest, range.low));
  const std::vector<double> series = root_series(range, options.tolerance);
  const Cut cut = cut_series(series, allowed);
  MLCORE_CHECK(cut.degree < static_cast<std::int64_t>(series.size()) - 1 &&
                   cut.degree <= options.max_iterations,
               "Chebyshev polynomials up to the degree ", options.max_iterations,
               " do not reach tol = ", options.tolerance, " on the spectrum ", range.low, "..",
               range.high, "; take method = lanczos or cholesky");
  space.combine(
      {t[0], t[1]},
      [&] {
        std::vector<double> factors = all(series[0]);
        factors.resize(2 * count, series[1]);
        return factors;
      }()
          .data(),
      zeros.data(), out);
  Sum sum{cut.degree, cut.rest / std::sqrt(std::max(smallest, range.low)), true};
  const auto watch = [&](const double* block) {
    space.dots({block}, block, squares.data());
    for (std::int64_t c = 0; c < count; ++c) {
      MLCORE_CHECK(std::isfinite(squares[c]),
                   "the matrix must be finite, but a product with it is not");
      sum.inside = sum.inside && squares[c] <= 1.01 * norms[c];
    }
  };
  watch(t[1]);
  for (std::int64_t k = 2; k <= cut.degree && sum.inside; ++k) {
    map(t[1], t[2], 2);
    space.combine({t[0]}, all(-1).data(), ones.data(), t[2]);
    watch(t[2]);
    space.combine({t[2]}, all(series[k]).data(), ones.data(), out);
    std::rotate(t, t + 1, t + 3);
  }
  space.dots({out}, out, squares.data());
  for (std::int64_t c = 0; c < count && sum.inside; ++c) {
    if (norms[c] == 0) continue;
    const double off = std::fabs(std::sqrt(squares[c] / targets[c]) - 1);
    const double rounding = options.rounding * range.high / (2 * range.low);
    sum.inside = off <= 2 * options.tolerance + 1e-12 + rounding;
    sum.error = std::max(sum.error, off);
  }
  return sum;
}

}  // namespace

NoiseReport chebyshev_root(VectorSpace& space, const double* z, double* out,
                           const KrylovOptions& options) {
  NoiseReport report;
  report.method = "chebyshev";
  const bool given = options.highest > 0;
  Interval range{options.lowest, options.highest};
  for (double blur = 1; blur > 1e-9; blur /= 100) {
    if (!given) range = estimated_bounds(space, z, options, blur, report);
    if (range.high == 0) {  // of a zero matrix, or only zero vectors
      space.combine({}, nullptr, std::vector<double>(space.count, 0.0).data(), out);
      return report;
    }
    range.low = std::max(range.low, 1e-12 * range.high);
    const Sum sum = chebyshev_sum(space, z, out, range, report.shift, options);
    report.iterations = sum.degree;
    report.error = sum.error + options.rounding * range.high / (2 * range.low);
    if (sum.inside) return report;
    MLCORE_CHECK(!given, "the bounds ", range.low, "..", range.high,
                 " do not hold the spectrum of the matrix: polynomials that stay within 1 inside "
                 "grew beyond it");
  }
  detail::raise<Error>("no bounds of the spectrum could be found: ", range.low, "..", range.high,
                       " do not hold it");
}

}  // namespace mlcore::detail
