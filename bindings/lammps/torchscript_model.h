#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace mlmod {

/// A TorchScript file in MLMOD's convention: one float32 (inputs, 1) tensor in, float32
/// (outputs, 1) out. Many calls are made at once by vectorising the unchanged model.
class TorchScriptModel {
 public:
  /// Throws std::runtime_error naming tag and file when the file cannot be loaded.
  TorchScriptModel(std::string tag, std::string path);
  ~TorchScriptModel();
  TorchScriptModel(const TorchScriptModel&) = delete;
  TorchScriptModel& operator=(const TorchScriptModel&) = delete;

  /// Compares vectorised with single calls on `samples` (count, inputs) and turns vectorising off
  /// where they differ or it fails. Returns why it is off, empty when it is on.
  std::string prepare_batches(const std::vector<float>& samples, std::int64_t count,
                              std::int64_t outputs);

  /// (batch, inputs) -> (batch, outputs); valid until the next call.
  /// Throws std::runtime_error naming tag and file: the model failed, or wrong type or shape.
  const float* evaluate(const std::vector<float>& input, std::int64_t batch, std::int64_t outputs);

  /// One call whose result may have any shape (rows, columns).
  const float* evaluate_matrix(const std::vector<float>& input, std::int64_t& rows,
                               std::int64_t& columns);

  /// First row of the last result that holds a NaN or an infinity; -1: none.
  static std::int64_t first_bad_row(const float* output, std::int64_t batch, std::int64_t outputs);

  /// "M_ij_filename 'M_ij.pt'"
  std::string label() const;

 private:
  struct State;
  std::string tag_, path_;
  std::unique_ptr<State> state_;
};

}  // namespace mlmod
