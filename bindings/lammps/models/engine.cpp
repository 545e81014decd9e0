#include "models/engine.h"

#include <stdexcept>

#include "models/native_engine.h"
#include "models/torch_engine.h"

namespace mlmod {

namespace {

[[noreturn]] void fail(const ModelBundle& bundle, const std::string& what) {
  throw std::runtime_error("bundle '" + bundle.folder + "': " + what);
}

/// Why an engine cannot run here; empty: it can.
std::string obstacle(const ModelBundle& bundle, const EngineChoice& choice,
                     const std::string& engine) {
  if (engine == "native") return native_obstacle(bundle, choice);
  if (engine == "compiled") return compiled_obstacle(bundle, choice);
  return torchscript_obstacle(bundle, choice);
}

std::unique_ptr<Engine> make(const ModelBundle& bundle, const EngineChoice& choice,
                             const std::string& engine) {
  if (engine == "native") return make_native_engine(bundle, choice);
  if (engine == "compiled") return make_compiled_engine(bundle, choice);
  return make_torchscript_engine(bundle, choice);
}

bool holds(const ModelBundle& bundle, const std::string& engine) {
  if (engine == "native") return bundle.native.has_value();
  if (engine == "compiled") return bundle.compiled.has_value();
  return !bundle.torchscript.empty();
}

}  // namespace

std::unique_ptr<Engine> make_engine(const ModelBundle& bundle, const EngineChoice& choice,
                                    const std::function<void(const std::string&)>& say) {
  if (!choice.engine.empty()) {
    const std::string& engine = choice.engine;
    if (!holds(bundle, engine)) fail(bundle, "holds no engine " + engine);
    const std::string reason = obstacle(bundle, choice, engine);
    if (!reason.empty()) fail(bundle, reason);
    return make(bundle, choice, engine);
  }
  std::string reasons;
  for (const char* engine : {"native", "compiled", "torchscript"}) {
    if (!holds(bundle, engine)) continue;
    const std::string reason = obstacle(bundle, choice, engine);
    if (reason.empty()) {
      if (!reasons.empty()) say("bundle '" + bundle.folder + "': " + reasons);
      return make(bundle, choice, engine);
    }
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  fail(bundle, "no engine of it can run here: " + reasons);
}

}  // namespace mlmod
