#pragma once

#include <memory>
#include <string>

#include "models/engine.h"

namespace mlmod {

/// Why TorchScript files or AOTInductor packages of a bundle cannot run here; empty: they can.
/// A build without torch says so.
std::string torchscript_obstacle(const ModelBundle& bundle, const EngineChoice& choice);
std::string compiled_obstacle(const ModelBundle& bundle, const EngineChoice& choice);

/// .pt files; forces by automatic differentiation.
std::unique_ptr<Engine> make_torchscript_engine(const ModelBundle& bundle,
                                                const EngineChoice& choice);
/// .pt2 files, compiled for one instruction set and version of torch.
std::unique_ptr<Engine> make_compiled_engine(const ModelBundle& bundle, const EngineChoice& choice);

}  // namespace mlmod
