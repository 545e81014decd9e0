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

}  // namespace mlcore::python
