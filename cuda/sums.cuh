#pragma once

// Sums whose order depends on nothing but their length.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "device.cuh"

namespace mlcore::cuda {

constexpr int kSumThreads = 128;

inline unsigned sum_blocks(std::int64_t items) {
  return static_cast<unsigned>((items + kSumThreads - 1) / kSumThreads);
}

/// out (parts, width) of values (rows, width): part p sums the rows p * chunk .. in order. `add`:
/// to what is there.
static __global__ void sum_row_parts(const double* values, std::int64_t rows, std::int64_t width,
                                     std::int64_t chunk, std::int64_t parts, bool add,
                                     double* out) {
  const std::int64_t t = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (t >= parts * width) return;
  const std::int64_t part = t / width, column = t % width;
  const std::int64_t begin = part * chunk, end = begin + chunk < rows ? begin + chunk : rows;
  double sum = add ? out[t] : 0.0;
  for (std::int64_t row = begin; row < end; ++row) sum += values[row * width + column];
  out[t] = sum;
}

/// out (width,) of values (rows, width) where there are few rows.
inline void sum_rows(const double* values, std::int64_t rows, std::int64_t width, bool add,
                     double* out, cudaStream_t stream) {
  if (width == 0) return;
  sum_row_parts<<<sum_blocks(width), kSumThreads, 0, stream>>>(values, rows, width, rows, 1, add,
                                                               out);
  check(cudaGetLastError(), "sum rows");
}

/// The same where there are many, in two stages.
inline void sum_many_rows(const double* values, std::int64_t rows, std::int64_t width, double* out,
                          cudaStream_t stream) {
  const auto chunk = static_cast<std::int64_t>(
      std::ceil(std::sqrt(static_cast<double>(std::max<std::int64_t>(rows, 1)))));
  const std::int64_t parts = (rows + chunk - 1) / chunk;
  const Scratch<double> sums(parts * width, stream);
  if (parts * width > 0) {
    sum_row_parts<<<sum_blocks(parts * width), kSumThreads, 0, stream>>>(values, rows, width, chunk,
                                                                         parts, false, sums.get());
    check(cudaGetLastError(), "sum rows");
  }
  sum_rows(sums.get(), parts, width, false, out, stream);
}

/// How the partners of n particles are shared out: threads for a full GPU, chunks of 32 at least.
struct Chunks {
  std::int64_t count, size;

  Chunks(std::int64_t targets, std::int64_t partners) {
    constexpr std::int64_t kThreadsInAll = std::int64_t{1} << 17, kLeast = 32;
    const std::int64_t most = std::max<std::int64_t>((partners + kLeast - 1) / kLeast, 1);
    const std::int64_t wanted =
        std::clamp<std::int64_t>(kThreadsInAll / std::max<std::int64_t>(targets, 1), 1, most);
    size = (partners + wanted - 1) / wanted;
    count = size > 0 ? (partners + size - 1) / size : 0;
  }
};

}  // namespace mlcore::cuda
