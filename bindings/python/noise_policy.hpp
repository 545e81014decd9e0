#pragma once

#include <string>

#include "arrays.hpp"
#include "mlcore/noise.hpp"

namespace mlcore::python {

inline Indefinite indefinite_named(const std::string& psd) {
  if (psd == "error") return Indefinite::error;
  MLCORE_CHECK(psd == "repair", "psd must be \"error\" or \"repair\", got \"", psd, "\"");
  return Indefinite::repair;
}

inline SqrtMethod method_named(const char* argument, const std::string& name) {
  if (name == "cholesky") return SqrtMethod::cholesky;
  if (name == "lanczos") return SqrtMethod::lanczos;
  if (name == "chebyshev") return SqrtMethod::chebyshev;
  MLCORE_CHECK(name == "auto", argument,
               " must be \"cholesky\", \"lanczos\", \"chebyshev\" or \"auto\", got \"", name, "\"");
  return SqrtMethod::automatic;
}

}  // namespace mlcore::python
