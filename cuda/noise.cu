// Mirrors cpp/src/noise.cpp: the vectors of Lanczos' and Chebyshev's methods on the GPU, products
// by the mobility of cuda/mobility.cu or a given matrix. Cholesky is that of cuda/linalg.cu.

#include <array>
#include <memory>
#include <vector>

#include "device.cuh"
#include "linalg_cuda.hpp"
#include "mlcore/mobility.hpp"
#include "noise_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream); }

unsigned blocks(std::int64_t items, std::int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

__device__ double warp_sum(double v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v += __shfl_down_sync(kAllLanes, v, offset);
  return v;
}

/// products[k * count + c] = a_k[c] . w[c]; block (c, k).
__global__ void dot_columns(const double* const* a, const double* w, std::int64_t size,
                            double* products) {
  const std::int64_t offset = blockIdx.x * size;
  const double* left = a[blockIdx.y] + offset;
  const double* right = w + offset;
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < size; i += kThreads) sum += left[i] * right[i];
  __shared__ double parts[kThreads / kWarp];
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int p = 1; p < kThreads / kWarp; ++p) sum += parts[p];
  products[blockIdx.y * static_cast<std::int64_t>(gridDim.x) + blockIdx.x] = sum;
}

/// w[c] = keep[c] w[c] + sum_k factors[k * count + c] a_k[c]; column c = blockIdx.y.
__global__ void combine_columns(const double* const* a, std::int64_t terms, const double* factors,
                                const double* keep, std::int64_t size, double* w) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i >= size) return;
  const std::int64_t c = blockIdx.y, place = c * size + i;
  double sum = keep[c] == 0 ? 0.0 : keep[c] * w[place];
  for (std::int64_t k = 0; k < terms; ++k) sum += factors[k * gridDim.y + c] * a[k][place];
  w[place] = sum;
}

/// Vectors in GPU memory; what derives from it knows the products.
class DeviceSpace : public detail::VectorSpace {
 public:
  DeviceSpace(const Context& context, int device, std::int64_t size, std::int64_t count)
      : VectorSpace(size, count), context_(context), device_(device) {
    MLCORE_CHECK(count <= 65535, "at most 65535 vectors at a time on the GPU, got ", count);
  }

  double* allocate() override {
    const CurrentDevice current(device_);
    memory_.push_back(std::make_unique<Scratch<double>>(size * count, stream()));
    return memory_.back()->get();
  }

  void dots(const Blocks& a, const double* w, double* products) override {
    const CurrentDevice current(device_);
    const std::size_t terms = a.size();
    const Scratch<const double*> pointers(a, stream());
    const Scratch<double> sums(terms * count, stream());
    const dim3 grid(static_cast<unsigned>(count), static_cast<unsigned>(terms));
    dot_columns<<<grid, kThreads, 0, stream()>>>(pointers.get(), w, size, sums.get());
    check(cudaGetLastError(), "multiply vectors");
    check(cudaMemcpyAsync(products, sums.get(), terms * count * sizeof(double),
                          cudaMemcpyDeviceToHost, stream()),
          "copy from the device");
    check(cudaStreamSynchronize(stream()), "multiply vectors");
  }

  void combine(const Blocks& a, const double* factors, const double* keep, double* w) override {
    const CurrentDevice current(device_);
    const Scratch<const double*> pointers(a, stream());
    const Scratch<double> scale(factors, a.size() * count, stream()), kept(keep, count, stream());
    const dim3 grid(blocks(size, kThreads), static_cast<unsigned>(count));
    combine_columns<<<grid, kThreads, 0, stream()>>>(
        pointers.get(), static_cast<std::int64_t>(a.size()), scale.get(), kept.get(), size, w);
    check(cudaGetLastError(), "combine vectors");
    // The host arrays may go once they are read.
    check(cudaStreamSynchronize(stream()), "combine vectors");
  }

 protected:
  cudaStream_t stream() const { return stream_of(context_); }

  const Context context_;
  const int device_;

 private:
  std::vector<std::unique_ptr<Scratch<double>>> memory_;
};

class DeviceMobilitySpace : public DeviceSpace {
 public:
  DeviceMobilitySpace(const Context& context, const MobilityModel& model, const Cell& cell,
                      View<const double, 2> x, std::int64_t count)
      : DeviceSpace(context, device_of("x", x.data), 3 * x.shape[0], count),
        model_(model),
        cell_(cell),
        x_(x) {}

  void apply(const double* in, double* out) override {
    for (std::int64_t c = 0; c < count; ++c) {
      mlcore::mobility_apply(context_, model_, cell_, x_,
                             View<const double, 2>(in + c * size, x_.shape, Device::cuda),
                             View<double, 2>(out + c * size, x_.shape, Device::cuda));
    }
  }

 private:
  const MobilityModel& model_;
  const Cell& cell_;
  View<const double, 2> x_;
};

class DeviceMatrixSpace : public DeviceSpace {
 public:
  DeviceMatrixSpace(const Context& context, View<const double, 2> M, std::int64_t count)
      : DeviceSpace(context, device_of("the matrix", M.data), M.shape[0], count), matrix_(M) {}

  void apply(const double* in, double* out) override {
    const std::array<std::int64_t, 2> shape{count, size};
    multiply_rows(context_, matrix_, false, View<const double, 2>(in, shape, Device::cuda),
                  View<double, 2>(out, shape, Device::cuda));
  }

 private:
  View<const double, 2> matrix_;
};

}  // namespace

std::unique_ptr<detail::VectorSpace> noise_space(const Context& context, const MobilityModel& model,
                                                 const Cell& cell, View<const double, 2> x,
                                                 std::int64_t count) {
  return std::make_unique<DeviceMobilitySpace>(context, model, cell, x, count);
}

std::unique_ptr<detail::VectorSpace> noise_space(const Context& context, View<const double, 2> M,
                                                 std::int64_t count) {
  return std::make_unique<DeviceMatrixSpace>(context, M, count);
}

std::shared_ptr<double> noise_memory(const Context& context, const double* like,
                                     std::int64_t count) {
  const CurrentDevice current(device_of("an array", like));
  auto memory = std::make_shared<Scratch<double>>(count, stream_of(context));
  return {memory, memory->get()};
}

}  // namespace mlcore::cuda
