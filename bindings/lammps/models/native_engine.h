#pragma once

#include <memory>
#include <string>

#include "models/engine.h"

namespace mlmod {

/// Why the native parts of a bundle cannot run here; empty: they can.
std::string native_obstacle(const ModelBundle& bundle, const EngineChoice& choice);

/// Pair tables and small networks evaluated by the core, without torch: in double precision, and
/// where the choice says so (LSTMs alone) in single.
std::unique_ptr<Engine> make_native_engine(const ModelBundle& bundle, const EngineChoice& choice);

}  // namespace mlmod
