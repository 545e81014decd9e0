// Compiled once per instruction set; see simd.hpp.

#include <cstdint>

namespace mlcore::kernels::MLCORE_ISA {

void philox_words(std::int64_t count, const std::uint32_t* tags, std::uint64_t seed,
                  std::uint32_t stream, std::uint64_t step, std::uint32_t* words) {
  const std::uint32_t step_low = static_cast<std::uint32_t>(step);
  const std::uint32_t step_high = static_cast<std::uint32_t>(step >> 32);
  const std::uint32_t block = stream * 4u;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t c0 = step_low, c1 = step_high, c2 = tags[i], c3 = block;
    std::uint32_t key0 = static_cast<std::uint32_t>(seed);
    std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * c0;
      const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * c2;
      c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key0;
      c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key1;
      c1 = static_cast<std::uint32_t>(product1);
      c3 = static_cast<std::uint32_t>(product0);
      key0 += 0x9E3779B9u;
      key1 += 0xBB67AE85u;
    }
    words[i] = c0;
    words[count + i] = c1;
    words[2 * count + i] = c2;
    words[3 * count + i] = c3;
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
