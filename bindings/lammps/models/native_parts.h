#pragma once

#include "bundle_file.h"
#include "models/model_bundle.h"

namespace mlmod {

/// Reads `engine`, the object engines.native of a manifest, and its tensors, whose shapes must be
/// those that the manifest tells. `bundle` holds what the manifest says of the model. Call
/// BundleFile::verify() first. Throws std::runtime_error naming the file and the field or tensor.
NativeParts read_native_parts(const BundleFile& file, const nlohmann::json& engine,
                              const ModelBundle& bundle);

}  // namespace mlmod
