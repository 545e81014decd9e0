#pragma once

#include <cstdint>
#include <functional>

#include "mlcore/context.hpp"

namespace mlcore::detail {

/// Threads an operation may use: the context's number, else the library-wide one.
MLCORE_API int resolve_threads(const Context& context);

/// Calls body(begin, end, chunk) for contiguous chunks of [0, count), chunk 0 on the calling
/// thread.
///
/// Chunks hold at least `grain` items, so small work stays on one thread. Bodies must write to
/// disjoint memory and not depend on where chunks end: results may not change with the thread
/// count. The first exception thrown by a body is rethrown here once all have finished. A body that
/// calls parallel_for runs it on its own thread.
MLCORE_API void parallel_for(const Context& context, std::int64_t count, std::int64_t grain,
                             const std::function<void(std::int64_t, std::int64_t, int)>& body);

}  // namespace mlcore::detail
