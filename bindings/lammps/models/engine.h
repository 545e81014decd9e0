#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/model_bundle.h"

namespace mlmod {

/// Atoms of one rank and the neighbors of the owned ones, which come first.
struct Neighborhood {
  std::int64_t owned = 0, all = 0;
  const double* x = nullptr;              ///< (all, 3)
  const std::int32_t* types = nullptr;    ///< (all,) from 0
  const std::int64_t* offsets = nullptr;  ///< (owned + 1,) neighbors of i are offsets[i] ..
  const std::int32_t* neighbors = nullptr;
  double cutoff = 0;     ///< farther neighbors are in the list, but no model sees them
  bool virials = false;  ///< whether Evaluation::virials are wanted
};

/// Atoms one by one, or one whole configuration in the order of the atom ids.
struct Particles {
  std::int64_t count = 0;
  const double *x = nullptr, *v = nullptr, *f = nullptr;  ///< (count, 3)
  const std::int32_t* types = nullptr;                    ///< (count,) from 0
  double time = 0;
  std::array<double, 9> cell{};  ///< rows
  /// State of a member with a memory: (count, memory), of a configuration (1, memory).
  const double* memory = nullptr;
};

/// What a model gives; what it does not give is empty.
struct Evaluation {
  std::vector<double> energies;    ///< (owned,) or (count,); of a configuration (1,)
  std::vector<double> forces;      ///< (all, 3), (owned, 3) when complete, or (count, 3)
  std::vector<double> dx, v;       ///< (count, 3)
  std::vector<double> memory;      ///< as Particles::memory: the state to go on from
  std::vector<double> values;      ///< (owned, K), (count, K) or the shape of a configuration's
  std::array<double, 6> virial{};  ///< xx yy zz xy xz yz, of neighbors
  std::vector<double> virials;     ///< rows as forces, 6 each: half of every pair's to each of both
};

/// One way of evaluating a bundle of kind force, dynamics or qoi.
/// Every function throws std::runtime_error naming the file.
class Engine {
 public:
  virtual ~Engine() = default;

  /// "native", "compiled" or "torchscript".
  virtual std::string name() const = 0;
  /// File of a member, as errors call it.
  virtual std::string label(std::int64_t member) const = 0;

  /// Whether forces of neighbors are whole on owned atoms, with none on ghosts.
  virtual bool complete() const { return false; }

  virtual void evaluate(std::int64_t member, const Neighborhood& where, Evaluation& result) = 0;
  virtual void evaluate(std::int64_t member, const Particles& where, Evaluation& result) = 0;
};

/// What the words of the command say about the engine; empty: not said.
struct EngineChoice {
  std::string engine, dtype, device;
};

/// The engine asked for, else native, compiled (if it fits this machine and torch), torchscript.
/// `say` is told why one was passed over. Throws std::runtime_error when there is none left.
std::unique_ptr<Engine> make_engine(const ModelBundle& bundle, const EngineChoice& choice,
                                    const std::function<void(const std::string&)>& say);

}  // namespace mlmod
