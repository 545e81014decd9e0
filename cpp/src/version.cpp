#include "mlcore/context.hpp"

namespace mlcore {

const char* version() { return MLCORE_VERSION; }

}  // namespace mlcore
