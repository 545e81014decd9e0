#pragma once

// What a mobility needs to know about its box before it looks at a particle. Shared by the CPU and
// the CUDA driver.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/mobility.hpp"
#include "mlcore/mobility.hpp"

namespace mlcore::detail {

/// What the Ewald sum is for: decides where it is split.
enum class EwaldUse { matrix, apply, none };

/// Wave part of the Ewald sum.
struct WavePart {
  std::vector<kernels::WaveRow> rows;
  std::vector<double> weights;  // (count, 6)
  std::array<std::int32_t, 3> extent{};

  kernels::WaveVectors view() const {
    return {static_cast<std::int64_t>(weights.size() / 6),
            static_cast<std::int64_t>(rows.size()),
            rows.data(),
            weights.data(),
            {extent[0], extent[1], extent[2]}};
  }
};

/// The analytic kernel in a periodic cell.
struct EwaldSum {
  kernels::RadialParameters radial;
  std::vector<double> images;
  WavePart waves;
  double self[6] = {};       // of the kernel: xx xy xz yy yz zz
  double wave_self[6] = {};  // what the wave part contributes to it
};

struct MobilityPlan {
  Cell cell;                      // completed; open axes perpendicular to the periodic ones
  std::array<double, 9> inverse;  // of cell.rows
  kernels::PairTerm terms[2];
  int term_count = 0;
  int table_term = -1;                                      // index of the table among the terms
  std::shared_ptr<const std::vector<double>> table_images;  // (m, 3)
  std::shared_ptr<const EwaldSum> ewald;  // null in open space and without a kernel
  double self[6] = {};                    // M_ii: xx xy xz yy yz zz
};

/// Checks model and cell for n particles.
void check_mobility(const MobilityModel& model, const Cell& cell, std::int64_t n);

/// Plans for n particles with a checked model and cell. Reads the table (CPU memory).
MobilityPlan mobility_plan(const MobilityModel& model, const Cell& cell, EwaldUse use,
                           std::int64_t n);

/// Structure of arrays of wrapped positions with the cell of a plan.
kernels::PairGeometry pair_geometry(const MobilityPlan& plan, const double* x, const double* y,
                                    const double* z);

/// Lattice vectors shorter than the cutoff, 0 left out.
std::vector<std::array<double, 3>> own_images(const Cell& cell, double cutoff);

/// Images (see kernels::PairTerm) that may bring a wrapped distance below the cutoff.
std::vector<double> pair_images(const Cell& cell, double cutoff);

}  // namespace mlcore::detail
