#pragma once

#include <cstdint>

#include "mlcore/context.hpp"

namespace mlcore {

/// Rates of this machine, measured now: what benchmarks and `mlcore doctor` compare times with.
/// Each takes the best of several runs, in CPU time of the process with one thread and in wall time
/// with more. They say what plain loops at the active instruction set (see simd_level) reach.

enum class MemoryUse { copy, read, write };

/// Floating point operations per second of independent multiply-add chains held in registers.
MLCORE_API double fma_rate(const Context& context, bool single_precision);

/// Bytes per second streamed (a copy counts both ways) through arrays that hold `bytes` together,
/// so that their size chooses the cache, or memory.
/// @throws InvalidArgument  fewer than 4096 bytes per thread
MLCORE_API double stream_rate(const Context& context, MemoryUse use, std::int64_t bytes);

/// Records of 32 bytes per second read at random places of a table of `bytes`.
/// @throws InvalidArgument  bytes < 4096, or above 64 GiB
MLCORE_API double gather_rate(const Context& context, std::int64_t bytes);

/// Bytes per second when memory fresh from the system is written for the first time.
/// @param huge_pages  ask for huge pages
/// @throws InvalidArgument  bytes < 4096
MLCORE_API double first_touch_rate(const Context& context, std::int64_t bytes, bool huge_pages);

}  // namespace mlcore
