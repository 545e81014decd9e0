// Stands in for torch_engine.cpp in a build without torch.
#include <stdexcept>

#include "models/torch_engine.h"

namespace mlmod {

namespace {

const char* const kAbsent =
    "this plugin was built without torch, which .pt and .pt2 files need; build it with torch: "
    "mlcore lammps build";

}  // namespace

std::string torchscript_obstacle(const ModelBundle&, const EngineChoice&) { return kAbsent; }

std::string compiled_obstacle(const ModelBundle&, const EngineChoice&) { return kAbsent; }

std::unique_ptr<Engine> make_torchscript_engine(const ModelBundle&, const EngineChoice&) {
  throw std::runtime_error(kAbsent);
}

std::unique_ptr<Engine> make_compiled_engine(const ModelBundle&, const EngineChoice&) {
  throw std::runtime_error(kAbsent);
}

}  // namespace mlmod
