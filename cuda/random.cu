// Mirrors cpp/src/random.cpp: one thread per particle, the same numbers.

#include <cmath>
#include <cstdint>

#include "device.cuh"
#include "philox.hpp"
#include "random_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr double kPi = 3.14159265358979323846;

__global__ void fill_normal(std::uint64_t seed, std::uint32_t block, std::uint64_t step,
                            const std::uint32_t* tags, std::int64_t count, double* out) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  std::uint32_t words[4] = {static_cast<std::uint32_t>(step),
                            static_cast<std::uint32_t>(step >> 32), tags[i], block};
  detail::philox4x32_10(words, static_cast<std::uint32_t>(seed),
                        static_cast<std::uint32_t>(seed >> 32));
  double u[4];
  for (int k = 0; k < 4; ++k) u[k] = detail::open_uniform(words[k]);
  const double radius = sqrt(-2.0 * log(u[0])), angle = 2.0 * kPi * u[1];
  out[3 * i] = radius * cos(angle);
  out[3 * i + 1] = radius * sin(angle);
  out[3 * i + 2] = sqrt(-2.0 * log(u[2])) * cos(2.0 * kPi * u[3]);
}

}  // namespace

void random_normal(const Context& context, std::uint64_t seed, std::uint32_t stream,
                   std::uint64_t step, View<const std::uint32_t, 1> tags, View<double, 2> out) {
  const std::int64_t count = tags.size();
  if (count == 0) return;
  const CurrentDevice current(device_of("out", out.data));
  const auto in_order = static_cast<cudaStream_t>(context.stream);
  const bool host = tags.device == Device::cpu;
  const Scratch<std::uint32_t> copied(tags.data, host ? count : 0, in_order);
  fill_normal<<<static_cast<unsigned>((count + 127) / 128), 128, 0, in_order>>>(
      seed, stream * 4u, step, host ? copied.get() : tags.data, count, out.data);
  check(cudaGetLastError(), "draw random numbers");
}

}  // namespace mlcore::cuda
