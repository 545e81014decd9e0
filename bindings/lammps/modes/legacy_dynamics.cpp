#include "legacy_dynamics.h"

#include <stdexcept>

#include "pair_geometry.h"

namespace mlmod {

LegacyDynamics::LegacyDynamics(const Choices& choices)
    : before_("dyn1_filename", choices.before),
      after_("dyn2_filename", choices.after),
      mask_(choices.mask),
      legacy_(choices.legacy) {
  if (choices.use_before) needs_.hooks |= kInitialIntegrate;
  if (choices.use_after) needs_.hooks |= kFinalIntegrate;
  needs_.integrates = true;
  needs_.local_order = legacy_;
  mask_.ask(needs_);
}

// The model sees wrapped positions and may return any image of the new ones: the nearest image of
// the displacement keeps unwrapped positions continuous.
void LegacyDynamics::on_whole(const Moment& now, const Configuration& group, Change& change) {
  const std::int64_t n = group.size();
  if (n == 0) return;
  TorchScriptModel& model = now.hook == kInitialIntegrate ? before_ : after_;
  whole_column(mask_, group, now.time, input_);
  const float* output = model.evaluate(input_, 1, 6 * n);
  check(model, output, group);
  change.v.assign(output + 3 * n, output + 6 * n);
  change.dx.resize(static_cast<std::size_t>(3 * n));
  const MinimumImage nearest(group.cell);
  for (std::int64_t i = 0; i < n; ++i) {
    double* d = change.dx.data() + 3 * i;
    for (int k = 0; k < 3; ++k) d[k] = output[3 * i + k] - group.x[3 * i + k];
    if (!legacy_) nearest(d);
  }
}

void LegacyDynamics::check(const TorchScriptModel& model, const float* output,
                           const Configuration& group) const {
  const std::int64_t n = group.size();
  const std::int64_t bad = TorchScriptModel::first_bad_row(output, 2 * n, 3);
  if (bad < 0) return;
  throw std::runtime_error(model.label() + ": new " + (bad < n ? "position" : "velocity") +
                           " of atom " + std::to_string(group.tags[bad % n]) + " is not finite");
}

}  // namespace mlmod
