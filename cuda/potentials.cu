// Mirrors cpp/src/potentials.cpp and kernels/potentials.inl: one thread per candidate and atom.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "device.cuh"
#include "finite.cuh"
#include "potentials_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kTiny = 1e-290;
constexpr double kLargest = 69.0776;  // exponent beyond which LAMMPS takes 1e30 or 0
constexpr std::int64_t kMostNumbers = std::int64_t{1} << 25;  // of derivatives kept at once
constexpr unsigned long long kNowhere = ~0ull;

/// Candidates first .. first + count - 1 of a call.
struct Job {
  PotentialModel model;
  std::int64_t structures, atoms, pairs, parameters, first, count;
  const std::int64_t* starts;
  const std::int64_t* offsets;
  const std::int32_t* species;
  const std::int32_t* columns;
  const double* vectors;
  const double* volumes;
  const std::int64_t* home;    // (N,) structures of the atoms
  const std::int64_t* mirror;  // (p,) the same pair seen from the other atom
  const double* values;        // (C, P)
  const double* deformation;
  std::int64_t deformed_candidates, deformed_structures;
  const double* displacements;
  double* slopes;    // (count, p, 3) derivatives of the energies of atoms by the vectors; or null
  double* energies;  // (count, N) of atoms
  double* virials;   // (count, N, 6) or null
};

unsigned blocks_of(std::int64_t items) { return static_cast<unsigned>((items + 127) / 128); }

__device__ std::int64_t thread_number() {
  return blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
}

__device__ const double* deformation_of(const Job& job, std::int64_t c, std::int64_t s) {
  if (!job.deformation) return nullptr;
  return job.deformation + 9 * ((job.deformed_candidates > 1 ? c : 0) * job.deformed_structures +
                                (job.deformed_structures > 1 ? s : 0));
}

/// An atom in a candidate, and its neighbors.
struct Center {
  const Job& job;
  std::int64_t c, i;  // candidate of the call, atom
  const double* F;
  const double* u;
  const double* parameters;
  double* slopes;  // of its pairs; or null

  __device__ Center(const Job& job, std::int64_t number) : job(job) {
    const std::int64_t part = number / job.atoms;
    c = job.first + part;
    i = number % job.atoms;
    F = deformation_of(job, c, job.home[i]);
    u = job.displacements ? job.displacements + 3 * c * job.atoms : nullptr;
    parameters = job.values + c * job.parameters;
    slopes = job.slopes ? job.slopes + 3 * part * job.pairs : nullptr;
  }

  __device__ std::int64_t begin() const { return job.offsets[i]; }
  __device__ std::int64_t end() const { return job.offsets[i + 1]; }
  __device__ std::int64_t kind() const { return job.species[i]; }
  __device__ std::int64_t kind_of(std::int64_t e) const { return job.species[job.columns[e]]; }

  /// Vector to neighbor e, its length is returned.
  __device__ double vector(std::int64_t e, double (&d)[3]) const {
    const double* v = job.vectors + 3 * e;
    for (int a = 0; a < 3; ++a) {
      d[a] = F ? F[3 * a] * v[0] + F[3 * a + 1] * v[1] + F[3 * a + 2] * v[2] : v[a];
      if (u) d[a] += u[3 * job.columns[e] + a] - u[3 * i + a];
    }
    return sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  }
  __device__ void add(std::int64_t e, double along, const double (&d)[3]) const {
    for (int a = 0; slopes && a < 3; ++a) slopes[3 * e + a] += along * d[a];
  }
};

__device__ std::int64_t pair_row(std::int64_t species, std::int64_t a, std::int64_t b) {
  const std::int64_t low = a < b ? a : b, high = a < b ? b : a;
  return low * species - low * (low - 1) / 2 + high - low;
}

__device__ double cosine(const double (&a)[3], double ra, const double (&b)[3], double rb) {
  return (a[0] * b[0] + a[1] * b[1] + a[2] * b[2]) / (ra * rb);
}

/// Adds the derivatives of a number that depends on the angle between two neighbors.
__device__ void turn(const Center& at, std::int64_t j, std::int64_t k, double by_cosine,
                     const double (&dj)[3], double rj, const double (&dk)[3], double rk,
                     double cos) {
  at.add(j, by_cosine / (rj * rk), dk);
  at.add(j, -by_cosine * cos / (rj * rj), dj);
  at.add(k, by_cosine / (rj * rk), dj);
  at.add(k, -by_cosine * cos / (rk * rk), dk);
}

// ----------------------------------------------------------------------------------- pair forms

__device__ double pair_curve(PotentialForm form, const double* p, double r, double& slope) {
  if (form == PotentialForm::lj) {
    const double s = p[1] / r, s6 = s * s * s * s * s * s;
    slope = 4 * p[0] * (6 * s6 - 12 * s6 * s6) / r;
    return 4 * p[0] * (s6 * s6 - s6);
  }
  if (form == PotentialForm::morse) {
    const double e = exp(-p[1] * (r - p[2]));
    slope = 2 * p[0] * p[1] * (e - e * e);
    return p[0] * (e * e - 2 * e);
  }
  const double e = p[0] * exp(-r / p[1]), i2 = 1 / (r * r), attraction = p[2] * i2 * i2 * i2;
  slope = 6 * attraction / r - e / p[1];
  return e - attraction;
}

__device__ double pair_energy(const Center& at) {
  const PotentialModel& model = at.job.model;
  const int columns = model.form == PotentialForm::lj ? 3 : 4;
  double energy = 0;
  for (std::int64_t e = at.begin(); e < at.end(); ++e) {
    const double* p = at.parameters + columns * pair_row(model.species, at.kind(), at.kind_of(e));
    double d[3], slope, none;
    const double r = at.vector(e, d), cut = p[columns - 1];
    if (!(r < cut)) continue;
    energy += 0.5 * pair_curve(model.form, p, r, slope);
    if (model.shift) energy -= 0.5 * pair_curve(model.form, p, cut, none);
    at.add(e, 0.5 * slope / r, d);
  }
  return energy;
}

// ----------------------------------------------------------------------------- Stillinger-Weber

__device__ double sw_energy(const Center& at) {
  // epsilon sigma a lambda gamma cos0 A B p q
  const std::int64_t s = at.job.model.species;
  const double* rows = at.parameters + 10 * at.kind() * s * s;
  double energy = 0;
  for (std::int64_t j = at.begin(); j < at.end(); ++j) {
    const double* ij = rows + 10 * at.kind_of(j) * (s + 1);
    double dj[3];
    const double rj = at.vector(j, dj), gap = rj - ij[1] * ij[2];
    if (!(gap < 0)) continue;
    const double rise = ij[7] * pow(ij[1] / rj, ij[8]), fall = pow(ij[1] / rj, ij[9]);
    const double decay = 0.5 * ij[6] * ij[0] * exp(ij[1] / gap);
    energy += (rise - fall) * decay;
    at.add(j,
           ((ij[9] * fall - ij[8] * rise) / rj - (rise - fall) * ij[1] / (gap * gap)) * decay / rj,
           dj);
    const double tail = ij[1] * ij[4], ej = exp(tail / gap);
    for (std::int64_t k = j + 1; k < at.end(); ++k) {
      const double* ik = rows + 10 * at.kind_of(k) * (s + 1);
      double dk[3];
      const double rk = at.vector(k, dk), other = rk - ik[1] * ik[2];
      if (!(other < 0)) continue;
      const std::int64_t low = min(at.kind_of(j), at.kind_of(k));
      const std::int64_t high = max(at.kind_of(j), at.kind_of(k));
      const double* ijk = rows + 10 * (low * s + high);
      const double second = ik[1] * ik[4], both = ej * exp(second / other);
      const double cos = cosine(dj, rj, dk, rk), off = cos - ijk[5];
      const double strength = ijk[3] * ijk[0], e = strength * off * off * both;
      energy += e;
      at.add(j, -e * tail / (gap * gap * rj), dj);
      at.add(k, -e * second / (other * other * rk), dk);
      turn(at, j, k, 2 * strength * off * both, dj, rj, dk, rk, cos);
    }
  }
  return energy;
}

// --------------------------------------------------------------------------------------- Tersoff

struct TersoffRow {
  double m, gamma, lam3, c, d, cos0, n, beta, lam2, B, R, D, lam1, A;
};

__device__ double taper(const TersoffRow& row, double r, double& slope) {
  slope = 0;
  if (r < row.R - row.D) return 1;
  double s, c;
  const double per_width = kPi / 4 / row.D;
  sincos((row.R + row.D - r) * per_width, &s, &c);
  slope = -2 * s * c * per_width;
  return s * s;
}

/// Part of zeta that a third atom makes: taper, angle and lam3 terms, with their slopes.
struct TersoffTerm {
  double f, f_slope, g, g_slope, rise, rise_slope, cos;

  __device__ TersoffTerm(const TersoffRow& row, const double (&dj)[3], double rj,
                         const double (&dk)[3], double rk) {
    f = taper(row, rk, f_slope);
    cos = cosine(dj, rj, dk, rk);
    const double c2 = row.c * row.c, d2 = row.d * row.d, off = row.cos0 - cos;
    const double range = d2 + off * off;
    g = row.gamma * (1 + c2 / d2 - c2 / range);
    g_slope = -2 * row.gamma * c2 * off / (range * range);
    const double line = row.lam3 * (rj - rk);
    const bool cubic = row.m == 3;
    const double exponent = cubic ? line * line * line : line;
    rise = exponent > kLargest ? 1e30 : exponent < -kLargest ? 0 : exp(exponent);
    rise_slope = rise * (cubic ? 3 * line * line * row.lam3 : row.lam3);
  }
};

__device__ double tersoff_energy(const Center& at) {
  const std::int64_t s = at.job.model.species;
  const auto* rows = reinterpret_cast<const TersoffRow*>(at.parameters) + at.kind() * s * s;
  double energy = 0;
  for (std::int64_t j = at.begin(); j < at.end(); ++j) {
    const TersoffRow* of_bond = rows + at.kind_of(j) * s;
    const TersoffRow& ij = of_bond[at.kind_of(j)];
    double dj[3], dk[3];
    const double rj = at.vector(j, dj);
    if (!(rj < ij.R + ij.D)) continue;
    double zeta = 0;
    for (std::int64_t k = at.begin(); k < at.end(); ++k) {
      const TersoffRow& ijk = of_bond[at.kind_of(k)];
      const double rk = at.vector(k, dk);
      if (k == j || !(rk < ijk.R + ijk.D)) continue;
      const TersoffTerm term(ijk, dj, rj, dk, rk);
      zeta += term.f * term.g * term.rise;
    }
    double f_slope;
    const double f = taper(ij, rj, f_slope);
    const double repulsion = ij.A * exp(-ij.lam1 * rj), attraction = ij.B * exp(-ij.lam2 * rj);
    const double x = ij.beta * zeta;
    const double power = ij.n * log(fmax(x, kTiny)), small = exp(-fabs(power));
    const double order = exp(-(fmax(power, 0.0) + log1p(small)) / (2 * ij.n));
    const double pull = order * attraction;
    energy += 0.5 * f * (repulsion - pull);
    if (!at.slopes) continue;
    at.add(j,
           0.5 * (f_slope * (repulsion - pull) + f * (ij.lam2 * pull - ij.lam1 * repulsion)) / rj,
           dj);
    if (!(x > kTiny)) continue;
    const double by_zeta = 0.25 * f * pull * (power > 0 ? 1.0 : small) / (1 + small) / zeta;
    for (std::int64_t k = at.begin(); k < at.end(); ++k) {
      const TersoffRow& ijk = of_bond[at.kind_of(k)];
      const double rk = at.vector(k, dk);
      if (k == j || !(rk < ijk.R + ijk.D)) continue;
      const TersoffTerm t(ijk, dj, rj, dk, rk);
      const double stretch = by_zeta * t.f * t.g * t.rise_slope;
      at.add(j, stretch / rj, dj);
      at.add(k, (by_zeta * t.f_slope * t.g * t.rise - stretch) / rk, dk);
      turn(at, j, k, by_zeta * t.f * t.g_slope * t.rise, dj, rj, dk, rk, t.cos);
    }
  }
  return energy;
}

// ------------------------------------------------------------------------------------------- EAM

/// LAMMPS' cubic through uniform knots and its slope per knot.
__device__ double spline(const double* f, std::int64_t n, double place, double& slope) {
  const double whole = fmin(fmax(floor(place), 0.0), static_cast<double>(n - 2));
  const std::int64_t k = static_cast<std::int64_t>(whole);
  const auto rise_at = [&](std::int64_t m) {
    if (m == 0) return f[1] - f[0];
    if (m == n - 1) return f[m] - f[m - 1];
    if (m == 1 || m == n - 2) return 0.5 * (f[m + 1] - f[m - 1]);
    return (f[m - 2] - f[m + 2] + 8 * (f[m + 1] - f[m - 1])) / 12;
  };
  const double t = fmin(place - whole, 1.0), step = f[k + 1] - f[k];
  const double here = rise_at(k), next = rise_at(k + 1);
  const double square = 3 * step - 2 * here - next, cube = here + next - 2 * step;
  slope = here + t * (2 * square + 3 * t * cube);
  return f[k] + t * (here + t * (square + t * cube));
}

__device__ double eam_energy(const Center& at) {
  const PotentialModel& model = at.job.model;
  const std::int64_t s = model.species, n = model.radial_knots;
  const double* density = at.parameters + s * model.embedding_knots;
  const double* product = density + s * s * n;
  double energy = 0, sum = 0, rise, slope, d[3];
  for (std::int64_t e = at.begin(); e < at.end(); ++e) {
    const double r = at.vector(e, d);
    if (!(r < model.cutoff)) continue;
    sum +=
        spline(density + (at.kind_of(e) * s + at.kind()) * n, n, r / model.radial_spacing, slope);
  }
  const double largest =
      model.largest_density > 0
          ? model.largest_density
          : static_cast<double>(model.embedding_knots - 1) * model.density_spacing;
  const double* embedding = at.parameters + at.kind() * model.embedding_knots;
  energy += spline(embedding, model.embedding_knots, sum / model.density_spacing, rise);
  rise /= model.density_spacing;
  if (sum > largest) energy += rise * (sum - largest);
  for (std::int64_t e = at.begin(); e < at.end(); ++e) {
    const double r = at.vector(e, d);
    if (!(r < model.cutoff)) continue;
    const double place = r / model.radial_spacing;
    double by_r, product_slope;
    spline(density + (at.kind_of(e) * s + at.kind()) * n, n, place, by_r);
    const double pair =
        spline(product + pair_row(s, at.kind(), at.kind_of(e)) * n, n, place, product_slope) / r;
    energy += 0.5 * pair;
    by_r = rise * by_r / model.radial_spacing +
           0.5 * (product_slope / model.radial_spacing - pair) / r;
    at.add(e, by_r / r, d);
  }
  return energy;
}

// --------------------------------------------------------------------------------------- kernels

/// Notes the first atom whose species or neighbors are none.
__global__ void find_unsound(Job job, unsigned long long* first) {
  const std::int64_t i = thread_number();
  if (i >= job.atoms) return;
  const std::int64_t begin = job.offsets[i], end = job.offsets[i + 1], s = job.home[i];
  bool sound = begin >= 0 && begin <= end && end <= job.pairs && job.species[i] >= 0 &&
               job.species[i] < job.model.species;
  for (std::int64_t e = begin; sound && e < end; ++e) {
    sound = job.columns[e] >= job.starts[s] && job.columns[e] < job.starts[s + 1];
  }
  if (!sound) atomicMin(first, static_cast<unsigned long long>(i));
}

/// Finds each pair among those of its other atom.
__global__ void find_mirrors(Job job, std::int64_t* mirror) {
  const std::int64_t i = thread_number();
  if (i >= job.atoms) return;
  for (std::int64_t e = job.offsets[i]; e < job.offsets[i + 1]; ++e) {
    const std::int64_t j = job.columns[e];
    const double* v = job.vectors + 3 * e;
    double nearest = 1e300;
    mirror[e] = e;
    for (std::int64_t o = job.offsets[j]; o < job.offsets[j + 1]; ++o) {
      if (job.columns[o] != i) continue;
      double apart = 0;
      for (int a = 0; a < 3; ++a) {
        apart += (job.vectors[3 * o + a] + v[a]) * (job.vectors[3 * o + a] + v[a]);
      }
      if (apart < nearest) {
        nearest = apart;
        mirror[e] = o;
      }
    }
  }
}

__global__ void run_atoms(Job job) {
  const std::int64_t number = thread_number();
  if (number >= job.count * job.atoms) return;
  const Center at(job, number);
  for (std::int64_t k = 3 * at.begin(); at.slopes && k < 3 * at.end(); ++k) at.slopes[k] = 0;
  double energy = 0;
  switch (job.model.form) {
    case PotentialForm::stillinger_weber:
      energy = sw_energy(at);
      break;
    case PotentialForm::tersoff:
      energy = tersoff_energy(at);
      break;
    case PotentialForm::eam:
      energy = eam_energy(at);
      break;
    default:
      energy = pair_energy(at);
  }
  job.energies[number] = energy;
  if (!job.virials) return;
  double virial[6] = {};
  for (std::int64_t e = at.begin(); e < at.end(); ++e) {
    const double* g = at.slopes + 3 * e;
    double d[3];
    at.vector(e, d);
    virial[0] += d[0] * g[0];
    virial[1] += d[1] * g[1];
    virial[2] += d[2] * g[2];
    virial[3] += d[1] * g[2];
    virial[4] += d[0] * g[2];
    virial[5] += d[0] * g[1];
  }
  for (int k = 0; k < 6; ++k) job.virials[6 * number + k] = virial[k];
}

/// Where results go; arrays of all candidates and structures.
struct Places {
  const std::uint8_t* wanted;
  const std::uint8_t* usable;
  double *energies, *forces, *stress;
};

__device__ double nothing() { return __longlong_as_double(0x7ff8000000000000ll); }

__global__ void gather_forces(Job job, Places to) {
  const std::int64_t number = thread_number();
  if (number >= job.count * job.atoms) return;
  const Center at(job, number);
  double force[3] = {};
  for (std::int64_t e = at.begin(); e < at.end(); ++e) {
    for (int a = 0; a < 3; ++a) {
      force[a] += at.slopes[3 * e + a] - at.slopes[3 * job.mirror[e] + a];
    }
  }
  const bool good = to.usable[at.c] && (!to.wanted || to.wanted[job.home[at.i]]);
  for (int a = 0; a < 3; ++a) {
    to.forces[3 * (at.c * job.atoms + at.i) + a] = good ? force[a] : nothing();
  }
}

/// One thread per candidate, structure and sum: the energy or a component of the stress.
__global__ void sum_structures(Job job, Places to) {
  const std::int64_t number = thread_number();
  if (number >= job.count * job.structures * 7) return;
  const std::int64_t k = number % 7, s = number / 7 % job.structures;
  const std::int64_t part = number / 7 / job.structures, c = job.first + part;
  if (k < 6 ? !to.stress : !to.energies) return;
  double sum = 0;
  for (std::int64_t i = job.starts[s]; i < job.starts[s + 1]; ++i) {
    const std::int64_t atom = part * job.atoms + i;
    sum += k < 6 ? job.virials[6 * atom + k] : job.energies[atom];
  }
  if (k == 6) {
    to.energies[c * job.structures + s] = to.usable[c] ? sum : nothing();
    return;
  }
  double volume = job.volumes[s];
  if (const double* F = deformation_of(job, c, s)) {
    volume *= fabs(F[0] * (F[4] * F[8] - F[5] * F[7]) - F[1] * (F[3] * F[8] - F[5] * F[6]) +
                   F[2] * (F[3] * F[7] - F[4] * F[6]));
  }
  const bool good = to.usable[c] && volume > 0 && (!to.wanted || to.wanted[s]);
  to.stress[6 * (c * job.structures + s) + k] = good ? sum / volume : nothing();
}

// ------------------------------------------------------------------------------------ the call

template <class T>
std::vector<T> on_host(const T* data, std::int64_t count, cudaStream_t stream) {
  std::vector<T> copy(data ? count : 0);
  if (copy.empty()) return copy;
  check(cudaMemcpyAsync(copy.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "copy from the device");
  return copy;
}

/// Which candidates are good; throws where one reaches beyond the list.
std::vector<std::uint8_t> judged(const PotentialModel& model, const PotentialStructures& on,
                                 const PotentialCandidates& candidates, cudaStream_t stream) {
  const auto starts = on_host(on.starts.data, on.starts.size(), stream);
  const auto parameters = on_host(candidates.parameters.data, candidates.parameters.size(), stream);
  const auto deformation =
      on_host(candidates.deformation.data, candidates.deformation.size(), stream);
  const auto displacements =
      on_host(candidates.displacements.data, candidates.displacements.size(), stream);
  PotentialStructures here = on;
  here.starts.data = starts.data();
  PotentialCandidates there = candidates;
  there.parameters.data = parameters.data();
  there.deformation.data = deformation.empty() ? nullptr : deformation.data();
  there.displacements.data = displacements.empty() ? nullptr : displacements.data();
  check_finite("parameters", there.parameters);
  if (there.deformation.data) check_finite("deformation", there.deformation);
  if (there.displacements.data) check_finite("displacements", there.displacements);
  const auto known = detail::judge_potentials(model, there.parameters);
  detail::check_potential_reach(here, there, known);
  std::vector<std::uint8_t> usable;
  for (const auto& verdict : known) usable.push_back(verdict.usable);
  return usable;
}

std::vector<std::int64_t> homes_of(const PotentialStructures& on, cudaStream_t stream) {
  const auto starts = on_host(on.starts.data, on.starts.size(), stream);
  const std::int64_t atoms = on.species.shape[0];
  std::vector<std::int64_t> home(atoms);
  MLCORE_CHECK(starts.front() == 0 && starts.back() == atoms, "starts must run from 0 to ", atoms,
               ", the number of atoms");
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
    MLCORE_CHECK(starts[s] <= starts[s + 1] && starts[s + 1] <= atoms, "starts must grow");
    std::fill(home.begin() + starts[s], home.begin() + starts[s + 1], static_cast<std::int64_t>(s));
  }
  return home;
}

void check_sound(const Job& job, cudaStream_t stream) {
  if (job.atoms == 0) return;
  unsigned long long found = kNowhere;
  const Scratch<unsigned long long> first(&kNowhere, 1, stream);
  find_unsound<<<blocks_of(job.atoms), 128, 0, stream>>>(job, first.get());
  check(cudaGetLastError(), "check neighbors");
  check(cudaMemcpyAsync(&found, first.get(), sizeof(found), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "check neighbors");
  MLCORE_CHECK(found == kNowhere, "species must lie in 0..", job.model.species - 1,
               ", offsets grow and columns be atoms of the same structure, but atom ", found,
               " breaks that");
}

}  // namespace

void evaluate_potentials(const Context& context, const PotentialModel& model,
                         const PotentialStructures& on, const PotentialCandidates& candidates,
                         const PotentialResults& results) {
  if (results.d_energies.data || results.d_forces.data || results.d_stress.data) {
    detail::raise<BackendUnavailable>("derivatives by parameters are made on the CPU alone");
  }
  const std::int64_t C = candidates.parameters.shape[0], M = on.starts.shape[0] - 1;
  const std::int64_t N = on.species.shape[0], pairs = on.columns.shape[0];
  if (C == 0 || M == 0) return;
  const CurrentDevice current(device_of("parameters", candidates.parameters.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const Scratch<std::uint8_t> usable(judged(model, on, candidates, stream), stream);
  const Scratch<std::int64_t> home(homes_of(on, stream), stream);
  const Scratch<std::int64_t> mirror(pairs, stream);
  Job job{};
  job.model = model;
  job.structures = M;
  job.atoms = N;
  job.pairs = pairs;
  job.parameters = candidates.parameters.shape[1];
  job.starts = on.starts.data;
  job.offsets = on.offsets.data;
  job.species = on.species.data;
  job.columns = on.columns.data;
  job.vectors = on.vectors.data;
  job.volumes = on.volumes.data;
  job.home = home.get();
  job.mirror = mirror.get();
  job.values = candidates.parameters.data;
  job.deformation = candidates.deformation.data;
  job.deformed_candidates = candidates.deformation.shape[0];
  job.deformed_structures = candidates.deformation.shape[1];
  job.displacements = candidates.displacements.data;
  check_sound(job, stream);
  const bool slopes = results.forces.data || results.stress.data;
  if (results.forces.data && N > 0) {
    find_mirrors<<<blocks_of(N), 128, 0, stream>>>(job, mirror.get());
    check(cudaGetLastError(), "find pairs");
  }
  const std::int64_t numbers = std::max<std::int64_t>(3 * pairs + 7 * N, 1);
  const std::int64_t together = std::clamp<std::int64_t>(kMostNumbers / numbers, 1, C);
  const Scratch<double> by_vectors(slopes ? together * pairs * 3 : 0, stream);
  const Scratch<double> energies(together * N, stream);
  const Scratch<double> virials(results.stress.data ? together * N * 6 : 0, stream);
  job.slopes = by_vectors.get();
  job.energies = energies.get();
  job.virials = virials.get();
  const Places to{results.wanted.data, usable.get(), results.energies.data, results.forces.data,
                  results.stress.data};
  for (job.first = 0; job.first < C; job.first += together) {
    job.count = std::min(together, C - job.first);
    if (N > 0) run_atoms<<<blocks_of(job.count * N), 128, 0, stream>>>(job);
    if (N > 0 && to.forces) {
      gather_forces<<<blocks_of(job.count * N), 128, 0, stream>>>(job, to);
    }
    sum_structures<<<blocks_of(job.count * M * 7), 128, 0, stream>>>(job, to);
    check(cudaGetLastError(), "evaluate potentials");
  }
}

}  // namespace mlcore::cuda
