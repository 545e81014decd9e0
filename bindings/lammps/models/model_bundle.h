#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "safetensors.h"

namespace mlmod {

enum class Sees { neighbors, atoms, configuration };
enum class Gives { energy, forces, step, values };
enum class Reduce { none, mean, sum };

/// What the core evaluates without torch.
struct NativeParts {
  std::string kind;  ///< "pair_table", "mlp", "lstm" or "splitting"
  double first = 0;  ///< of pair_table: distance of the first knot
  std::size_t knots = 0;
  std::size_t layers = 0;                 ///< of mlp and lstm
  std::string activation;                 ///< of mlp
  std::size_t hidden = 0;                 ///< of lstm: units in a layer
  std::size_t kicks = 0, intervals = 0;   ///< of splitting
  std::size_t halvings = 0;               ///< of splitting: of a step that is not good, at most
  double u_lo = 0, u_hi = 0;              ///< of splitting: 1 / cutoff, 1 / distance too close
  std::map<std::string, Tensor> tensors;  ///< "m0.energy", "m0.w0", "m0.lstm0.w_ih", ...
};

struct CompiledParts {
  std::vector<std::string> files;
  std::string torch, instruction_set, device;
};

/// Contents of a bundle folder of kind "force", "dynamics" or "qoi".
struct ModelBundle {
  std::string folder, kind;
  std::string length_unit, energy_unit, time_unit;
  Sees sees = Sees::atoms;
  Gives gives = Gives::energy;
  Reduce reduce = Reduce::none;
  std::vector<std::string> inputs;  ///< ordered subset of x v f types time cell
  std::string dtype;                ///< "float32" or "float64"
  double cutoff = 0;                ///< 0: none
  std::int64_t types = 1;
  std::int64_t particles = 0;       ///< 0: any number
  double timestep = 0;              ///< of dynamics; 0: any
  std::int64_t memory = 0;          ///< of dynamics: numbers of state that a row keeps; 0: none
  std::vector<std::int64_t> shape;  ///< of a qoi: (K,) or (K, L)
  std::int64_t members = 1;
  std::optional<NativeParts> native;
  std::vector<std::string> torchscript;  ///< files, one per member
  std::optional<CompiledParts> compiled;

  bool wants(const std::string& input) const;
  std::int64_t width() const;  ///< numbers of one qoi
  std::string path(const std::string& name) const { return folder + "/" + name; }
  std::string rebuild() const { return "mlcore export rebuild " + folder; }
};

/// Reads and checks DIR/manifest.json, the hashes of the files it lists and the tensors of the
/// native engine. Throws std::runtime_error naming the file and the field.
ModelBundle read_model_bundle(const std::string& folder, const std::string& kind);

/// Throws std::runtime_error when the bundle was made in another of LAMMPS' unit styles.
void check_units(const ModelBundle& bundle, const std::string& style);

}  // namespace mlmod
