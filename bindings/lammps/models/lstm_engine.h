#pragma once

#include <memory>

#include "models/engine.h"

namespace mlmod {

/// Recurrent networks on one row per atom, or on one row of a whole configuration, evaluated by
/// the core. The state of a row is h of all layers, then c of all layers.
std::unique_ptr<Engine> make_lstm_engine(const ModelBundle& bundle, bool single_precision);

}  // namespace mlmod
