#include "run_boundary.h"

#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "angle.h"
#include "atom.h"
#include "bond.h"
#include "comm.h"
#include "dihedral.h"
#include "domain.h"
#include "fix.h"
#include "force.h"
#include "group.h"
#include "improper.h"
#include "modes/pair_geometry.h"
#include "modify.h"
#include "pair.h"

namespace mlmod {

namespace {

/// FNV-1a in as many bits as a double holds.
double digest(const std::string& bytes) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211u;
  return static_cast<double>((hash ^ (hash >> 52)) & 0xFFFFFFFFFFFFFu);
}

template <class Number>
void put(std::string& bytes, const Number* values, std::size_t count) {
  bytes.append(reinterpret_cast<const char*>(values), count * sizeof(Number));
}

/// What a style writes into restart files.
template <class Style>
std::string coefficients(Style& style) {
  char* data = nullptr;
  std::size_t size = 0;
  std::FILE* const file = open_memstream(&data, &size);
  if (!file) return {};
  style.write_restart(file);
  std::fclose(file);
  std::string bytes(data, size);
  std::free(data);
  return bytes;
}

template <class Style>
void put_style(std::string& bytes, const char* name, Style* style) {
  if (style) bytes += std::string(name) + '\n' + coefficients(*style);
}

}  // namespace

void RunBoundary::note(int i, double* columns) const {
  std::copy_n(atom->x[i], 3, columns);
  std::string rest;
  put(rest, atom->v[i], 3);
  put(rest, atom->type + i, 1);
  if (atom->q_flag) put(rest, atom->q + i, 1);
  columns[3] = digest(rest);
}

bool RunBoundary::unchanged(int i, const double* columns) const {
  double now[kColumns], d[3], size = 1e-300;
  note(i, now);
  if (now[3] != columns[3]) return false;
  for (int k = 0; k < 3; ++k) {
    d[k] = now[k] - columns[k];
    size = std::max({size, std::fabs(now[k]), std::fabs(columns[k]), domain->prd[k]});
  }
  MinimumImage{cell()}(d);
  // what wrapping may round off
  return std::hypot(d[0], d[1], d[2]) <= 1e-14 * size;
}

double RunBoundary::force_field(const LAMMPS_NS::Fix* fix) const {
  double mark = 0;
  if (comm->me == 0) mark = 1 + digest(box() + styles() + fixes(fix));
  MPI_Bcast(&mark, 1, MPI_DOUBLE, 0, world);
  return mark;
}

std::string RunBoundary::box() const {
  std::string bytes;
  put(bytes, domain->periodicity, 3);
  // sides that are not periodic follow the atoms
  for (int k = 0; k < 3; ++k)
    if (domain->periodicity[k]) put(bytes, domain->prd + k, 1);
  if (domain->triclinic) put(bytes, domain->h + 3, 3);
  put(bytes, &atom->natoms, 1);
  put(bytes, &atom->nbonds, 1);
  put(bytes, &atom->nangles, 1);
  put(bytes, &atom->ndihedrals, 1);
  put(bytes, &atom->nimpropers, 1);
  return bytes;
}

std::string RunBoundary::styles() const {
  std::string bytes;
  if (force->pair) {
    bytes += std::string(force->pair_style) + '\n';
    if (force->pair->restartinfo) bytes += coefficients(*force->pair);
    const auto types = static_cast<std::size_t>(atom->ntypes);
    for (std::size_t a = 1; force->pair->cutsq && a <= types; ++a)
      put(bytes, force->pair->cutsq[a] + 1, types);
  }
  put_style(bytes, force->bond_style, force->bond);
  put_style(bytes, force->angle_style, force->angle);
  put_style(bytes, force->dihedral_style, force->dihedral);
  put_style(bytes, force->improper_style, force->improper);
  if (force->kspace) bytes += force->kspace_style;
  put(bytes, force->special_lj, 4);
  put(bytes, force->special_coul, 4);
  put(bytes, &force->qqrd2e, 1);
  return bytes;
}

std::string RunBoundary::fixes(const LAMMPS_NS::Fix* fix) const {
  using namespace LAMMPS_NS::FixConst;
  std::vector<std::string> lines;
  for (LAMMPS_NS::Fix* other : modify->get_fix_list())
    if (other != fix && modify->get_fix_mask(other) & (PRE_FORCE | PRE_REVERSE | POST_FORCE))
      lines.push_back(std::string(other->id) + ' ' + other->style + ' ' +
                      group->names[other->igroup] + '\n');
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

}  // namespace mlmod
