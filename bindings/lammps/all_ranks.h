#pragma once

#include <exception>
#include <stdexcept>
#include <string>

#include "exceptions.h"
#include "lammps.h"

namespace mlmod {

/// What `body` throws, as text; empty: nothing. LAMMPS' own exceptions pass.
template <class Body>
std::string caught(Body&& body) {
  std::string problem;
  try {
    body();
  } catch (const LAMMPS_NS::LAMMPSException&) {
    throw;
  } catch (const std::exception& failure) {
    problem = failure.what();
    if (problem.empty()) problem = "unknown error";
  } catch (...) {
    problem = "unknown error";
  }
  return problem;
}

/// Collective. Stops all ranks with `who` and the first rank's `problem`, if any has one.
void raise_together(LAMMPS_NS::LAMMPS* lmp, const std::string& who, const std::string& problem);

}  // namespace mlmod
