#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define MLCORE_HOST_DEVICE __host__ __device__
#else
#define MLCORE_HOST_DEVICE
#endif

namespace mlcore::detail {

/// Ten rounds of Philox4x32 on `counter`, in place (Salmon et al., SC 2011, section 3.3).
MLCORE_HOST_DEVICE inline void philox4x32_10(std::uint32_t counter[4], std::uint32_t key0,
                                             std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    const std::uint32_t next0 = static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0;
    const std::uint32_t next2 = static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1;
    counter[1] = static_cast<std::uint32_t>(product1);
    counter[3] = static_cast<std::uint32_t>(product0);
    counter[0] = next0;
    counter[2] = next2;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

/// Uniform in (0, 1), never an end point.
MLCORE_HOST_DEVICE inline double open_uniform(std::uint32_t word) {
  return (static_cast<double>(word) + 0.5) * 0x1p-32;
}

}  // namespace mlcore::detail
