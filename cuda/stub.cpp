// Stands in for the CUDA sources when the library is built without nvcc.

#include "bonds_cuda.hpp"
#include "dynamics_cuda.hpp"
#include "linalg_cuda.hpp"
#include "mlcore/context.hpp"
#include "mlp_cuda.hpp"
#include "mobility_cuda.hpp"
#include "mobility_gradient_cuda.hpp"
#include "neighbors_cuda.hpp"
#include "noise_cuda.hpp"
#include "pair_potential_cuda.hpp"
#include "potentials_cuda.hpp"
#include "random_cuda.hpp"
#include "recurrent_cuda.hpp"
#include "splitting_cuda.hpp"
#include "stencil_active_cuda.hpp"
#include "stencil_cuda.hpp"
#include "voxels_cuda.hpp"

namespace mlcore {

CudaStatus cuda_status() { return {}; }

namespace cuda {
namespace {

[[noreturn]] void unavailable() {
  throw BackendUnavailable(
      "the array is on the GPU, but this build of mlcore has no CUDA part; build it with CUDA=ON "
      "or pass a CPU array");
}

}  // namespace

void evaluate_bonds(const Context&, const kernels::BondPlan&, View<const double, 2>,
                    View<const double, 1>, const BondRows&, const BondDirections&,
                    const BondResults&) {
  unavailable();
}

void mobility_matrix(const Context&, const MobilityModel&, const Cell&, View<const double, 3>,
                     View<double, 3>) {
  unavailable();
}

void mobility_matrix(const Context&, const MobilityModel&, const Cell&, View<const float, 3>,
                     View<float, 3>) {
  unavailable();
}

void mobility_apply(const Context&, const MobilityModel&, const Cell&, View<const double, 3>,
                    View<const double, 3>, View<double, 3>) {
  unavailable();
}

void mobility_apply(const Context&, const MobilityModel&, const Cell&, View<const float, 3>,
                    View<const float, 3>, View<float, 3>) {
  unavailable();
}

void mobility_divergence(const Context&, const MobilityModel&, const Cell&, View<const double, 3>,
                         View<double, 3>) {
  unavailable();
}

void mobility_divergence(const Context&, const MobilityModel&, const Cell&, View<const float, 3>,
                         View<float, 3>) {
  unavailable();
}

detail::ParameterSums mobility_backward(const Context&, const MobilityModel&,
                                        const detail::MobilityPlan&, const MobilityScalar&,
                                        View<double, 2>, std::vector<double>&) {
  unavailable();
}

void mobility_tangent(const Context&, const MobilityModel&, const detail::MobilityPlan&,
                      View<const double, 2>, View<const double, 2>, View<const double, 2>,
                      View<double, 2>) {
  unavailable();
}

void mobility_hessian(const Context&, const MobilityModel&, const detail::MobilityPlan&,
                      View<const double, 2>, View<const double, 2>, View<const double, 2>,
                      View<const double, 2>, View<double, 2>) {
  unavailable();
}

void lstm_run(const Context&, const LstmModel<float>&, std::shared_ptr<LstmWeightsOnDevice>&,
              const LstmCall<float>&) {
  unavailable();
}

void lstm_run(const Context&, const LstmModel<double>&, std::shared_ptr<LstmWeightsOnDevice>&,
              const LstmCall<double>&) {
  unavailable();
}

template <class T>
void convolve(const Context&, const detail::ConvolutionPlan&, const T*, const T*,
              const Epilogue<T>&, T*) {
  unavailable();
}
template void convolve<float>(const Context&, const detail::ConvolutionPlan&, const float*,
                              const float*, const Epilogue<float>&, float*);
template void convolve<double>(const Context&, const detail::ConvolutionPlan&, const double*,
                               const double*, const Epilogue<double>&, double*);

template <class T>
void weight_gradient(const Context&, const detail::ConvolutionPlan&, const T*, const T*, T*) {
  unavailable();
}
template void weight_gradient<float>(const Context&, const detail::ConvolutionPlan&, const float*,
                                     const float*, float*);
template void weight_gradient<double>(const Context&, const detail::ConvolutionPlan&, const double*,
                                      const double*, double*);

template <class T>
void differentiate(const Context&, const detail::DifferencePlan&, const T*, T*) {
  unavailable();
}
template void differentiate<float>(const Context&, const detail::DifferencePlan&, const float*,
                                   float*);
template void differentiate<double>(const Context&, const detail::DifferencePlan&, const double*,
                                    double*);

template <class T>
void rasterize(const Context&, const kernels::VoxelStencil&, const VoxelPoints&, View<const T, 2>,
               View<T, 5>, const VoxelOptions&) {
  unavailable();
}

template <class T>
void gather(const Context&, const kernels::VoxelStencil&, const VoxelPoints&, View<const T, 5>,
            View<T, 2>, const VoxelOptions&) {
  unavailable();
}

template <class T>
void voxel_position_gradient(const Context&, const kernels::VoxelStencil&, const VoxelPoints&,
                             View<const T, 2>, View<const T, 5>, View<double, 2>,
                             const VoxelOptions&) {
  unavailable();
}

#define MLCORE_INSTANTIATE(T)                                                                      \
  template void rasterize<T>(const Context&, const kernels::VoxelStencil&, const VoxelPoints&,     \
                             View<const T, 2>, View<T, 5>, const VoxelOptions&);                   \
  template void gather<T>(const Context&, const kernels::VoxelStencil&, const VoxelPoints&,        \
                          View<const T, 5>, View<T, 2>, const VoxelOptions&);                      \
  template void voxel_position_gradient<T>(const Context&, const kernels::VoxelStencil&,           \
                                           const VoxelPoints&, View<const T, 2>, View<const T, 5>, \
                                           View<double, 2>, const VoxelOptions&);
MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)
#undef MLCORE_INSTANTIATE

void bin_atoms(const Context&, const kernels::VoxelStencil&, const std::array<double, 9>&,
               View<const double, 2>, const VoxelBins&) {
  unavailable();
}

void unbin_atoms(const Context&, const kernels::VoxelStencil&, const std::array<double, 9>&,
                 View<const std::int64_t, 1>, View<const double, 2>, View<const std::int32_t, 2>,
                 View<const std::int64_t, 2>, View<double, 2>) {
  unavailable();
}

void active_neighbors(const Context&, const ActiveGrid&, View<const std::int64_t, 2>,
                      View<const std::int64_t, 2>, std::int64_t, View<std::int32_t, 2>) {
  unavailable();
}

template <class T>
void conv3d_active(const Context&, View<const std::int32_t, 1>, View<const T, 2>, View<const T, 5>,
                   const ActiveEpilogue<T>&, View<T, 2>) {
  unavailable();
}

template <class T>
void scatter3d_active(const Context&, View<const std::int32_t, 1>, View<const T, 2>,
                      View<const T, 5>, View<T, 2>) {
  unavailable();
}

template <class T>
void conv3d_active_weight_gradient(const Context&, View<const std::int32_t, 1>, View<const T, 2>,
                                   View<const T, 2>, View<T, 5>) {
  unavailable();
}

#define MLCORE_INSTANTIATE(T)                                                                      \
  template void conv3d_active<T>(const Context&, View<const std::int32_t, 1>, View<const T, 2>,    \
                                 View<const T, 5>, const ActiveEpilogue<T>&, View<T, 2>);          \
  template void scatter3d_active<T>(const Context&, View<const std::int32_t, 1>, View<const T, 2>, \
                                    View<const T, 5>, View<T, 2>);                                 \
  template void conv3d_active_weight_gradient<T>(const Context&, View<const std::int32_t, 1>,      \
                                                 View<const T, 2>, View<const T, 2>, View<T, 5>);
MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)
#undef MLCORE_INSTANTIATE

void verlet(const Context&, const ParticleSystem&, const VerletOptions&, const VerletStages&,
            View<const double, 2>, View<double, 4>, View<double, 4>, View<double, 3>, std::int64_t,
            std::int64_t) {
  unavailable();
}

void system_forces(const Context&, const ParticleSystem&, View<const double, 3>, View<double, 3>,
                   View<double, 1>) {
  unavailable();
}

void system_force_gradient(const Context&, const ParticleSystem&, View<const double, 3>,
                           View<const double, 3>, View<double, 3>) {
  unavailable();
}

double force_field(const Context&, const ForcePlan&, const Cell&, View<const double, 2>,
                   View<double, 2>) {
  unavailable();
}

void brownian(const Context&, const MobilityModel&, const Cell&, const ForcePlan&,
              const BrownianOptions&, double, View<double, 4>, std::int64_t, std::int64_t) {
  unavailable();
}

void random_normal(const Context&, std::uint64_t, std::uint32_t, std::uint64_t,
                   View<const std::uint32_t, 1>, View<double, 2>) {
  unavailable();
}

std::unique_ptr<detail::VectorSpace> noise_space(const Context&, const MobilityModel&, const Cell&,
                                                 View<const double, 2>, std::int64_t) {
  unavailable();
}

std::unique_ptr<detail::VectorSpace> noise_space(const Context&, View<const double, 2>,
                                                 std::int64_t) {
  unavailable();
}

template <class T>
bool try_cholesky(const Context&, View<T, 2>) {
  unavailable();
}

template <class T>
void check_symmetric(const Context&, View<const T, 2>, double) {
  unavailable();
}

template <class T>
void copy_matrix(const Context&, View<const T, 2>, View<T, 2>) {
  unavailable();
}

template <class T>
void to_host(const Context&, const T*, std::int64_t, T*) {
  unavailable();
}

#define MLCORE_INSTANTIATE(T)                                                 \
  template bool try_cholesky<T>(const Context&, View<T, 2>);                  \
  template void check_symmetric<T>(const Context&, View<const T, 2>, double); \
  template void copy_matrix<T>(const Context&, View<const T, 2>, View<T, 2>); \
  template void to_host<T>(const Context&, const T*, std::int64_t, T*);
MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)
#undef MLCORE_INSTANTIATE

void multiply_rows(const Context&, View<const double, 2>, bool, View<const double, 2>,
                   View<double, 2>) {
  unavailable();
}

void lower_transpose_solve(const Context&, View<const double, 2>, View<double, 1>) {
  unavailable();
}

void add_to_diagonal(const Context&, View<double, 2>, double) { unavailable(); }

std::shared_ptr<double> noise_memory(const Context&, const double*, std::int64_t) { unavailable(); }

void mlp_run(const Context&, const MlpModel<float>&, std::shared_ptr<MlpWeightsOnDevice>&,
             const MlpCall<float>&) {
  unavailable();
}

void mlp_run(const Context&, const MlpModel<double>&, std::shared_ptr<MlpWeightsOnDevice>&,
             const MlpCall<double>&) {
  unavailable();
}

void pair_run(const Context&, const PairModel&, std::shared_ptr<PairTableOnDevice>&,
              const PairRows&, const PairResults&) {
  unavailable();
}

void pair_derivatives(const Context&, const PairModel&, std::shared_ptr<PairTableOnDevice>&,
                      const PairRows&, const kernels::PairDerivatives&) {
  unavailable();
}

void evaluate_potentials(const Context&, const PotentialModel&, const PotentialStructures&,
                         const PotentialCandidates&, const PotentialResults&) {
  unavailable();
}

void splitting_run(const Context&, const SplittingModel&, std::shared_ptr<SplittingOnDevice>&,
                   const kernels::SplittingSpace&, View<const std::int32_t, 1>,
                   const SplittingState&, std::int64_t, std::int64_t, std::int64_t, View<double, 4>,
                   View<double, 4>) {
  unavailable();
}

struct NeighborSearch::State {};
NeighborSearch::NeighborSearch(const Context&, View<const double, 2>, const Cell&,
                               const detail::PairCutoff&, double, const NeighborOptions&, bool) {
  unavailable();
}
NeighborSearch::~NeighborSearch() = default;
NeighborSearch::NeighborSearch(NeighborSearch&&) noexcept = default;
NeighborSearch& NeighborSearch::operator=(NeighborSearch&&) noexcept = default;
bool NeighborSearch::move(const Context&, View<const double, 2>) { unavailable(); }
void NeighborSearch::copy_positions(const Context&, View<double, 2>) const { unavailable(); }
std::int64_t NeighborSearch::count() const { unavailable(); }
std::int64_t NeighborSearch::largest_row() const { unavailable(); }
void NeighborSearch::offsets(const Context&, std::int64_t, std::int64_t*) const { unavailable(); }
template <class Index, class Real>
void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                          const NeighborArrays<Index, Real>&) const {
  unavailable();
}
template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int32_t, double>&) const;
template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int64_t, double>&) const;
template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int32_t, float>&) const;
template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int64_t, float>&) const;
void NeighborSearch::fill(const Context&, std::int64_t, const NeighborMatrix&) const {
  unavailable();
}

}  // namespace cuda
}  // namespace mlcore
