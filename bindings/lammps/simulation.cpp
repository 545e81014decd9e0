#include "simulation.h"

#include <stdexcept>

#include "compute.h"
#include "fix_model.h"
#include "modify.h"

namespace mlmod {

using LAMMPS_NS::Compute;
using LAMMPS_NS::Fix;
using LAMMPS_NS::FixModel;

Fix* Simulation::fix_named(const std::string& id) const {
  if (Fix* found = modify->get_fix_by_id(id)) return found;
  throw std::runtime_error("there is no fix '" + id + "'; it must be made before this fix");
}

Shown Simulation::shown_by(const std::string& id, bool values) const {
  Fix* fix = fix_named(id);
  Shown shown;
  if (const auto* model = dynamic_cast<const FixModel*>(fix)) {
    shown.mode = model->mode_name();
    shown.spreads = model->spreads();
  }
  if (fix->scalar_flag) shown.scalar = values ? fix->compute_scalar() : 0.0;
  const int size = fix->vector_flag ? fix->size_vector : 0;
  for (int i = 0; i < size; ++i) shown.vector.push_back(values ? fix->compute_vector(i) : 0.0);
  shown.columns = fix->array_flag ? fix->size_array_cols : 0;
  for (int i = 0; shown.columns > 0 && i < fix->size_array_rows; ++i)
    for (int j = 0; j < shown.columns; ++j)
      shown.array.push_back(values ? fix->compute_array(i, j) : 0.0);
  const bool global = fix->scalar_flag || fix->vector_flag || fix->array_flag;
  if (global && fix->global_freq > 0) shown.every = fix->global_freq;
  if (!fix->peratom_flag) return shown;
  shown.per_atom = fix->size_peratom_cols > 0 ? fix->size_peratom_cols : 1;
  if (fix->peratom_freq > shown.every) shown.every = fix->peratom_freq;
  return shown;
}

std::vector<AtomColumns> Simulation::columns_of(const std::vector<std::string>& ids) const {
  std::vector<AtomColumns> columns;
  for (const std::string& id : ids) {
    const Fix* fix = fix_named(id);
    if (!fix->peratom_flag) continue;
    if (fix->size_peratom_cols > 0)
      columns.push_back({.width = fix->size_peratom_cols, .array = fix->array_atom});
    else
      columns.push_back({.width = 1, .vector = fix->vector_atom});
  }
  return columns;
}

std::vector<ForceFix> Simulation::force_fixes(const Fix* fix) const {
  std::vector<ForceFix> found;
  bool later = false;
  for (Fix* other : modify->get_fix_list()) {
    if (other != fix && modify->get_fix_mask(other) & LAMMPS_NS::FixConst::POST_FORCE)
      found.push_back({.id = other->id, .style = other->style, .later = later});
    later |= other == fix;
  }
  return found;
}

double Simulation::potential_energy(std::int64_t next) const {
  Compute* energy = modify->get_compute_by_id("thermo_pe");
  if (!energy) throw std::runtime_error("there is no compute thermo_pe");
  const double value = energy->compute_scalar();
  energy->addstep(next);
  return value;
}

}  // namespace mlmod
