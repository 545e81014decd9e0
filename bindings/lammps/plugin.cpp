#include <string>

#include "error.h"
#include "fix_model.h"
#include "fix_splitting.h"
#include "lammps.h"
#include "mlcore/context.hpp"
#include "modes/legacy.h"
#include "modes/native_form.h"

namespace {

// The record `plugin load` expects, as documented in LAMMPS' manual ("Writing plugins").
struct PluginRecord {
  const char* version;
  const char* style;
  const char* name;
  const char* info;
  const char* author;
  void* (*create)(void* lmp, int narg, char** arg);
  void* handle;
};

using Register = void (*)(PluginRecord*, void*);

void* create_mlmod(void* lmp, int narg, char** arg) {
  return new LAMMPS_NS::FixModel(static_cast<LAMMPS_NS::LAMMPS*>(lmp), narg, arg,
                                 mlmod::make_mlmod_mode);
}

void* create_mlcore(void* lmp, int narg, char** arg) {
  if (LAMMPS_NS::FixSplitting::is_meant(narg, arg))
    return new LAMMPS_NS::FixSplitting(static_cast<LAMMPS_NS::LAMMPS*>(lmp), narg, arg);
  return new LAMMPS_NS::FixModel(static_cast<LAMMPS_NS::LAMMPS*>(lmp), narg, arg,
                                 mlmod::make_native_mode);
}

void check_versions(const LAMMPS_NS::LAMMPS& lammps) {
  const std::string again = "; build the plugin again: mlcore lammps build";
  if (std::string(mlcore::version()) != MLCORE_BUILT_VERSION)
    lammps.error->all(FLERR, "mlcore plugin: built against libmlcore " MLCORE_BUILT_VERSION
                             ", but libmlcore " +
                                 std::string(mlcore::version()) + " is loaded" + again);
  if (lammps.num_ver != MLCORE_BUILT_LAMMPS)
    lammps.error->all(FLERR, "mlcore plugin: built for LAMMPS version " +
                                 std::to_string(MLCORE_BUILT_LAMMPS) + ", but this is " +
                                 std::to_string(lammps.num_ver) + again);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void* lmp, void* handle,
                                                                         void* function) {
  auto* lammps = static_cast<LAMMPS_NS::LAMMPS*>(lmp);
  check_versions(*lammps);
  PluginRecord record{.version = lammps->version,
                      .style = "fix",
                      .name = "mlmod",
                      .info = "learned models by MLMOD's files, mlcore " MLCORE_BUILT_VERSION,
                      .author = "the mlcore developers",
                      .create = create_mlmod,
                      .handle = handle};
  reinterpret_cast<Register>(function)(&record, lmp);
  record.name = "mlcore";
  record.info = "learned models by mlcore's bundles, mlcore " MLCORE_BUILT_VERSION;
  record.create = create_mlcore;
  reinterpret_cast<Register>(function)(&record, lmp);
}
