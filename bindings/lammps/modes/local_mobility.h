#pragma once

#include <string>

#include "modes/bundle_mobility.h"
#include "modes/mode.h"

namespace mlmod {

/// v = M f, x += dt v with a mobility that ends at its cutoff: each rank needs its ghosts alone.
class LocalMobility final : public Mode {
 public:
  LocalMobility(const std::string& folder, const std::string& units);

  const Needs& needs() const override { return needs_; }
  void on_local(const Moment& now, const LocalAtoms& atoms, Change& change) override;

 private:
  BundleMobility mobility_;
  Needs needs_;
  Configuration members_;
};

}  // namespace mlmod
