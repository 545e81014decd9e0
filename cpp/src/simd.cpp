#include "simd.hpp"

#include <cstdlib>
#include <cstring>

#include "mlcore/context.hpp"

namespace mlcore {
namespace detail {
namespace {

Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
  return Isa::baseline;
#elif defined(__aarch64__)
  return Isa::neon;
#else
  return Isa::baseline;
#endif
}

Isa chosen_isa() {
  const Isa best = best_isa();
  const char* wish = std::getenv("MLCORE_SIMD");
  if (!wish || best == Isa::neon) return best;
  if (std::strcmp(wish, "baseline") == 0) return Isa::baseline;
  if (std::strcmp(wish, "avx2") == 0 && best == Isa::avx512) return Isa::avx2;
  return best;
}

}  // namespace

Isa isa() {
  static const Isa chosen = chosen_isa();
  return chosen;
}

}  // namespace detail

const char* simd_level() {
  switch (detail::isa()) {
    case detail::Isa::avx512:
      return "avx512";
    case detail::Isa::avx2:
      return "avx2";
    case detail::Isa::neon:
      return "neon";
    default:
      return "baseline";
  }
}

}  // namespace mlcore
