// Mirrors cpp/src/noise.cpp: the vectors of Lanczos' and Chebyshev's methods on the GPU, products
// by the mobility of cuda/mobility.cu or a given matrix, and Cholesky by cuSOLVER, which is loaded
// when it is first asked for.

#include <dlfcn.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "device.cuh"
#include "finite.cuh"
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

/// out[c] = A in[c], of every row the first i + 1 entries where `lower`; a warp per row, column
/// c = blockIdx.y.
__global__ void multiply_rows(const double* A, std::int64_t m, bool lower, const double* in,
                              double* out) {
  const std::int64_t i =
      blockIdx.x * static_cast<std::int64_t>(kThreads / kWarp) + threadIdx.x / kWarp;
  if (i >= m) return;
  const double* row = A + i * m;
  const double* x = in + blockIdx.y * m;
  const std::int64_t end = lower ? i + 1 : m;
  double sum = 0;
  for (std::int64_t j = threadIdx.x % kWarp; j < end; j += kWarp) sum += row[j] * x[j];
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) out[blockIdx.y * m + i] = sum;
}

__global__ void add_to_diagonal(double* A, std::int64_t m, double value) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i < m) A[i * m + i] += value;
}

/// Raises *to to v >= 0; such numbers are ordered as their bits are.
__device__ void raise_to(unsigned long long* to, double v) {
  atomicMax(to, static_cast<unsigned long long>(__double_as_longlong(v)));
}

/// found[0] = max |A_ij - A_ji|, found[1] = max |A_ij| of finite entries, as bits. A thread per
/// entry of a tile of 32 x 32 on or below the diagonal; the tile across it goes through shared
/// memory.
__global__ void measure_asymmetry(const double* A, std::int64_t m, unsigned long long* found) {
  __shared__ double across[kWarp][kWarp + 1];
  const std::int64_t row = blockIdx.y * static_cast<std::int64_t>(kWarp);
  const std::int64_t column = blockIdx.x * static_cast<std::int64_t>(kWarp);
  if (column > row) return;
  const std::int64_t u = column + threadIdx.y, v = row + threadIdx.x;
  across[threadIdx.y][threadIdx.x] = u < m && v < m ? A[u * m + v] : 0.0;
  __syncthreads();
  const std::int64_t i = row + threadIdx.y, j = column + threadIdx.x;
  if (i >= m || j >= m) return;
  const double below = A[i * m + j], above = across[threadIdx.x][threadIdx.y];
  raise_to(found, fabs(below - above));
  raise_to(found + 1, fmax(fabs(below), fabs(above)));
}

void multiply(const double* A, std::int64_t m, bool lower, const double* in, std::int64_t count,
              double* out, cudaStream_t stream) {
  const dim3 grid(blocks(m, kThreads / kWarp), static_cast<unsigned>(count));
  multiply_rows<<<grid, kThreads, 0, stream>>>(A, m, lower, in, out);
  check(cudaGetLastError(), "multiply by a matrix");
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
    const CurrentDevice current(device_);
    multiply(matrix_.data, size, false, in, count, out, stream());
  }

 private:
  View<const double, 2> matrix_;
};

/// The few functions of cuSOLVER's dense API that are called here.
class Solver {
 public:
  using Handle = void*;
  static constexpr int kUpper = 1;  // CUBLAS_FILL_MODE_UPPER: the lower one of a row-major matrix

  static const Solver& get() {
    static const Solver solver;
    return solver;
  }

  int (*create)(Handle*);
  int (*destroy)(Handle);
  int (*set_stream)(Handle, cudaStream_t);
  int (*buffer_size)(Handle, int, int, double*, int, int*);
  int (*potrf)(Handle, int, int, double*, int, double*, int, int*);

 private:
  Solver() {
    void* library = open();
    if (!library) {
      detail::raise<BackendUnavailable>(
          "Cholesky on the GPU needs cuSOLVER, which cannot be loaded (", dlerror(),
          "): pip install nvidia-cusolver, or take method = lanczos");
    }
    find(library, "cusolverDnCreate", create);
    find(library, "cusolverDnDestroy", destroy);
    find(library, "cusolverDnSetStream", set_stream);
    find(library, "cusolverDnDpotrf_bufferSize", buffer_size);
    find(library, "cusolverDnDpotrf", potrf);
  }

  /// Of the process (torch and CuPy load it), of the system, or of NVIDIA's wheels beside ours.
  static void* open() {
    for (const char* name : {"libcusolver.so.12", "libcusolver.so.11", "libcusolver.so"}) {
      if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    }
    Dl_info info;
    if (!dladdr(reinterpret_cast<const void*>(&Solver::get), &info)) return nullptr;
    std::string root(info.dli_fname);  // site-packages/mlcore/lib/libmlcore.so
    for (int levels = 0; levels < 3; ++levels) root.erase(root.find_last_of('/') + 1).pop_back();
    for (const char* path :
         {"/nvidia/cu13/lib/libcusolver.so.12", "/nvidia/cusolver/lib/libcusolver.so.11"}) {
      if (void* library = dlopen((root + path).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    }
    return nullptr;
  }

  template <class F>
  static void find(void* library, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(library, name));
    if (!function) detail::raise<BackendUnavailable>("this cuSOLVER has no ", name);
  }
};

void check_solver(int status, const char* what) {
  if (status != 0) detail::raise<Error>("cuSOLVER failed to ", what, " (status ", status, ")");
}

class SolverHandle {
 public:
  explicit SolverHandle(cudaStream_t stream) {
    check_solver(Solver::get().create(&handle_), "start");
    check_solver(Solver::get().set_stream(handle_, stream), "take the stream");
  }
  ~SolverHandle() { Solver::get().destroy(handle_); }
  SolverHandle(const SolverHandle&) = delete;
  SolverHandle& operator=(const SolverHandle&) = delete;
  Solver::Handle get() const { return handle_; }

 private:
  Solver::Handle handle_ = nullptr;
};

/// A = L L^T in place; false at a pivot that is not positive.
bool factored(View<double, 2> A, cudaStream_t stream) {
  const Solver& solver = Solver::get();
  const SolverHandle handle(stream);
  const int m = static_cast<int>(A.shape[0]);
  int length = 0;
  check_solver(solver.buffer_size(handle.get(), Solver::kUpper, m, A.data, m, &length), "plan");
  const Scratch<double> work(length, stream);
  const Scratch<int> info(1, stream);
  check_solver(
      solver.potrf(handle.get(), Solver::kUpper, m, A.data, m, work.get(), length, info.get()),
      "factor a matrix");
  int found = 0;
  std::vector<double> diagonal(m);
  check(cudaMemcpyAsync(&found, info.get(), sizeof(int), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaMemcpy2DAsync(diagonal.data(), sizeof(double), A.data, (m + 1) * sizeof(double),
                          sizeof(double), m, cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "factor a matrix");
  for (double pivot : diagonal) {
    if (!std::isfinite(pivot)) return false;
  }
  return found == 0;
}

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

bool noise_cholesky(const Context& context, View<double, 2> M, double shift,
                    View<const double, 2> z, View<double, 2> out) {
  const std::int64_t m = M.shape[0], count = z.shape[0];
  MLCORE_CHECK(m <= std::numeric_limits<int>::max(), "the matrix is too large for cuSOLVER: ", m);
  MLCORE_CHECK(count <= 65535, "at most 65535 vectors at a time on the GPU, got ", count);
  const CurrentDevice current(device_of("the matrix", M.data));
  const cudaStream_t stream = stream_of(context);
  if (shift != 0) {
    add_to_diagonal<<<blocks(m, kThreads), kThreads, 0, stream>>>(M.data, m, shift);
    check(cudaGetLastError(), "shift a matrix");
  }
  if (!factored(M, stream)) return false;
  multiply(M.data, m, true, z.data, count, out.data, stream);
  return true;
}

void noise_check_symmetric(const Context& context, View<const double, 2> M, double tolerance) {
  const std::int64_t m = M.shape[0];
  if (m == 0) return;
  const CurrentDevice current(device_of("the matrix", M.data));
  const cudaStream_t stream = stream_of(context);
  check_finite_there("the matrix", M.data, M.size(), stream);
  const unsigned tiles = blocks(m, kWarp);
  MLCORE_CHECK(tiles <= 65535, "the matrix is too large for the GPU: ", m, " rows");
  double found[2] = {0, 0};
  const Scratch<double> there(found, 2, stream);
  measure_asymmetry<<<dim3(tiles, tiles), dim3(kWarp, kWarp), 0, stream>>>(
      M.data, m, reinterpret_cast<unsigned long long*>(there.get()));
  check(cudaGetLastError(), "compare a matrix with its transpose");
  check(cudaMemcpyAsync(found, there.get(), sizeof(found), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "compare a matrix with its transpose");
  MLCORE_CHECK(found[0] <= tolerance * found[1], "the matrix must be symmetric to ", tolerance,
               " of its largest entry, but M - M^T has an entry of ", found[0]);
}

void noise_to_host(const Context& context, const double* from, std::int64_t count, double* to) {
  if (count == 0) return;
  const CurrentDevice current(device_of("an array", from));
  check(
      cudaMemcpyAsync(to, from, count * sizeof(double), cudaMemcpyDeviceToHost, stream_of(context)),
      "copy from the device");
  check(cudaStreamSynchronize(stream_of(context)), "copy from the device");
}

std::shared_ptr<double> noise_memory(const Context& context, const double* like,
                                     std::int64_t count) {
  const CurrentDevice current(device_of("an array", like));
  auto memory = std::make_shared<Scratch<double>>(count, stream_of(context));
  return {memory, memory->get()};
}

std::shared_ptr<double> noise_copy(const Context& context, View<const double, 2> M) {
  std::shared_ptr<double> copy = noise_memory(context, M.data, M.size());
  const CurrentDevice current(device_of("the matrix", M.data));
  check(cudaMemcpyAsync(copy.get(), M.data, M.size() * sizeof(double), cudaMemcpyDeviceToDevice,
                        stream_of(context)),
        "copy a matrix");
  return copy;
}

}  // namespace mlcore::cuda
