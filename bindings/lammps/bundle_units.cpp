#include "bundle_units.h"

#include <algorithm>
#include <stdexcept>

namespace mlmod {

void check_units(const std::string& folder, const std::array<std::string, 3>& units,
                 const std::string& style) {
  constexpr std::array styles{"lj", "real", "metal", "si", "cgs", "electron", "micro", "nano"};
  constexpr std::array names{"length", "energy", "time"};
  for (std::size_t k = 0; k < units.size(); ++k)
    if (units[k] != style && std::find(styles.begin(), styles.end(), units[k]) != styles.end())
      throw std::runtime_error("bundle '" + folder + "/manifest.json': field units." + names[k] +
                               " says '" + units[k] + "', this run has units " + style);
}

}  // namespace mlmod
