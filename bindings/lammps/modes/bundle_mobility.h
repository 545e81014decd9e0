#pragma once

#include <string>

#include "bundle_reader.h"
#include "mobility_source.h"

namespace mlmod {

/// M of an mlcore bundle, evaluated by the core.
class BundleMobility final : public MobilitySource {
 public:
  /// Throws std::runtime_error when the bundle is damaged, or was made in another of LAMMPS' unit
  /// styles than `units`.
  BundleMobility(const std::string& folder, const std::string& units);

  const Bundle& bundle() const { return bundle_; }

  void evaluate(const Configuration& configuration) override;
  void apply(const std::vector<double>& f, std::vector<double>& v) override;
  void matrix(std::vector<double>& m) override;
  bool divergence(std::vector<double>& d) override;

 private:
  std::string label() const;

  Bundle bundle_;
  Configuration now_;
};

}  // namespace mlmod
