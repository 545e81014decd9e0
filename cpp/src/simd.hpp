#pragma once

// Inner loops live in kernels/<op>.inl and are compiled once per instruction set, each time inside
// namespace mlcore::kernels::MLCORE_ISA. Keep those files free of inline library code: the linker
// keeps one copy of an inline function, and it may be the AVX-512 one.
//
// Per operation: kernels/<op>.hpp declares its functions with MLCORE_DECLARE_PER_ISA(...), the
// driver calls MLCORE_DISPATCH(function)(arguments...).

namespace mlcore::detail {

enum class Isa { baseline, avx2, avx512, neon };

/// What this CPU offers, lowered by MLCORE_SIMD; read once.
Isa isa();

}  // namespace mlcore::detail

#if defined(__x86_64__)
#define MLCORE_DECLARE_PER_ISA(...) \
  namespace baseline {              \
  __VA_ARGS__                       \
  }                                 \
  namespace avx2 {                  \
  __VA_ARGS__                       \
  }                                 \
  namespace avx512 {                \
  __VA_ARGS__                       \
  }
#define MLCORE_DISPATCH(function)                                                                  \
  (::mlcore::detail::isa() == ::mlcore::detail::Isa::avx512 ? &::mlcore::kernels::avx512::function \
   : ::mlcore::detail::isa() == ::mlcore::detail::Isa::avx2                                        \
       ? &::mlcore::kernels::avx2::function                                                        \
       : &::mlcore::kernels::baseline::function)
#elif defined(__aarch64__)
#define MLCORE_DECLARE_PER_ISA(...) \
  namespace neon {                  \
  __VA_ARGS__                       \
  }
#define MLCORE_DISPATCH(function) (&::mlcore::kernels::neon::function)
#else
#define MLCORE_DECLARE_PER_ISA(...) \
  namespace baseline {              \
  __VA_ARGS__                       \
  }
#define MLCORE_DISPATCH(function) (&::mlcore::kernels::baseline::function)
#endif
