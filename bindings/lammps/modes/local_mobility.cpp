#include "modes/local_mobility.h"

namespace mlmod {

LocalMobility::LocalMobility(const std::string& folder, const std::string& units)
    : mobility_(folder, units) {
  needs_.hooks = kFinalIntegrate;
  needs_.sight = Sight::local;
  needs_.f = true;
  needs_.cutoff = mobility_.bundle().cutoff;
  needs_.integrates = true;
}

// Ghosts are images already, so the members are an open system; rows of ghosts are not used.
void LocalMobility::on_local(const Moment& now, const LocalAtoms& atoms, Change& change) {
  members_.tags = atoms.tags;
  members_.x = atoms.x;
  members_.cell = mlcore::Cell::open();
  mobility_.evaluate(members_);
  mobility_.apply(atoms.f, change.v);
  change.v.resize(3 * static_cast<std::size_t>(atoms.owned));
  change.dx = change.v;
  for (double& value : change.dx) value *= now.dt;
}

}  // namespace mlmod
