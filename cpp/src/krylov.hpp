#pragma once

// Square roots of symmetric matrices known by their products alone. Several vectors go side by
// side, so that one pass over a matrix serves all. The algorithms run on the host and touch vectors
// only through VectorSpace, which the CPU (noise.cpp) and the GPU (cuda/noise.cu) have each their
// own of.

#include <cstdint>
#include <vector>

#include "mlcore/noise.hpp"

namespace mlcore::detail {

/// The method `automatic` stands for, 3n = m, so many vectors per configuration; else that asked
/// for.
SqrtMethod chosen_method(const SqrtOptions& options, std::int64_t m, std::int64_t vectors);

/// Vectors of length `size`, in blocks of `count`: (count, size).
class VectorSpace {
 public:
  using Blocks = std::vector<const double*>;

  VectorSpace(std::int64_t size, std::int64_t count) : size(size), count(count) {}
  virtual ~VectorSpace() = default;
  VectorSpace(const VectorSpace&) = delete;
  VectorSpace& operator=(const VectorSpace&) = delete;

  /// An uninitialised block that lives as long as this.
  virtual double* allocate() = 0;
  /// out = M in
  virtual void apply(const double* in, double* out) = 0;
  /// products[k * count + c] = a_k[c] . w[c]
  virtual void dots(const Blocks& a, const double* w, double* products) = 0;
  /// w[c] = keep[c] w[c] + sum_k factors[k * count + c] a_k[c]; where keep is 0, w is not read.
  virtual void combine(const Blocks& a, const double* factors, const double* keep, double* w) = 0;

  const std::int64_t size, count;
};

/// Called with the smallest Ritz value where the matrix turns out indefinite and `psd` is error;
/// has to throw.
using RaiseIndefinite = void (*)(const void* where, double smallest, double largest);

struct KrylovOptions {
  double tolerance;
  std::int64_t max_iterations;
  Indefinite psd;
  double lowest, highest;  ///< bounds of the spectrum; 0: unknown
  double rounding;         ///< error of the products relative to the largest eigenvalue
  RaiseIndefinite raise;
  const void* where;
};

/// out = M^(1/2) z by Lanczos' method (Chow and Saad, SIAM J. Sci. Comput. 36, A588 (2014); Ando et
/// al., J. Chem. Phys. 137, 064106 (2012)) with full reorthogonalisation; stops where the result
/// changes by less than the tolerance.
NoiseReport lanczos_root(VectorSpace& space, const double* z, double* out,
                         const KrylovOptions& options);

/// out = M^(1/2) z by Chebyshev polynomials (Fixman, Macromolecules 19, 1204 (1986)) on bounds of
/// the spectrum that are given, or estimated by Lanczos' method and checked.
NoiseReport chebyshev_root(VectorSpace& space, const double* z, double* out,
                           const KrylovOptions& options);

}  // namespace mlcore::detail
