#include "torchscript_model.h"

#include <ATen/Parallel.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/passes/common_subexpression_elimination.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/peephole.h>
#include <torch/csrc/jit/python/update_graph_executor_opt.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/interpreter.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <stdexcept>
#include <utility>

#include "text_file.h"
#include "torch_errors.h"

namespace mlmod {

namespace {

// Rows per vectorised call: intermediate tensors stay in the cache.
constexpr std::int64_t kBatchRows = 4096;

class VmapLevel {
 public:
  explicit VmapLevel(std::int64_t batch)
      : level_(at::functorch::initAndPushDynamicLayer(at::functorch::TransformType::Vmap,
                                                      c10::SymInt(batch),
                                                      at::functorch::RandomnessType::Error)) {}
  ~VmapLevel() { at::functorch::popDynamicLayerAndDeleteMetadata(); }
  VmapLevel(const VmapLevel&) = delete;
  VmapLevel& operator=(const VmapLevel&) = delete;
  std::int64_t level() const { return level_; }

 private:
  std::int64_t level_;
};

using Call = std::function<at::Tensor(const at::Tensor&)>;

bool agree(const at::Tensor& a, const at::Tensor& b) {
  const double scale = at::nan_to_num(a, 0.0, 0.0, 0.0).abs().max().item<double>();
  return at::allclose(a, b, 1e-5, 1e-6 * scale, /*equal_nan=*/true);
}

/// Whether every call runs the same operations: no branches, loops, side effects or random numbers.
bool is_straight(const torch::jit::Module& module) {
  const auto graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  return std::all_of(graph->nodes().begin(), graph->nodes().end(), [](const auto* node) {
    return node->blocks().empty() && !node->hasSideEffects() && !node->isNondeterministic();
  });
}

/// A vectorised call of one batch size as a plain graph, free of what vmap costs in each operation.
class RecordedCall {
 public:
  RecordedCall(const Call& call, const at::Tensor& rows) : batch_(rows.size(0)) {
    const auto record = [&](torch::jit::Stack inputs) {
      return torch::jit::Stack{call(inputs.at(0).toTensor())};
    };
    const auto unnamed = [](const at::Tensor&) { return std::string(); };
    std::shared_ptr<torch::jit::Graph> graph =
        torch::jit::tracer::trace({rows}, record, unnamed).first->graph;
    torch::jit::Inline(*graph);
    torch::jit::ConstantPropagation(graph);
    torch::jit::EliminateCommonSubexpression(graph);
    torch::jit::PeepholeOptimize(graph);
    torch::jit::EliminateDeadCode(graph);
    code_ = torch::jit::Code(graph, "recorded call");
    const at::Tensor others = batch_ > 1 ? rows.roll(1, 0) : at::mul(rows, 1.0009765625);
    if (!agree(call(others), (*this)(others))) throw std::runtime_error("recorded call differs");
  }

  std::int64_t batch() const { return batch_; }

  at::Tensor operator()(const at::Tensor& rows) const {
    const c10::InferenceMode inference;
    torch::jit::Stack stack{rows};
    torch::jit::InterpreterState(code_).run(stack);
    return stack.at(0).toTensor();
  }

 private:
  std::int64_t batch_;
  torch::jit::Code code_;
};

/// Recordings of the batch sizes that come again and again; the least recently used one is dropped.
class Recordings {
 public:
  explicit Recordings(bool possible) : possible_(possible) {}

  at::Tensor call(const Call& call, const at::Tensor& rows) {
    const std::int64_t batch = rows.size(0);
    const auto known = std::find_if(calls_.begin(), calls_.end(),
                                    [&](const auto& one) { return one.batch() == batch; });
    if (known == calls_.end()) {
      if (possible_ && comes_again(batch)) record(call, rows);
      return call(rows);
    }
    calls_.splice(calls_.begin(), calls_, known);
    return calls_.front()(rows);
  }

 private:
  static constexpr std::size_t kMost = 4;
  static constexpr int kTimes = 3;

  bool comes_again(std::int64_t batch) {
    if (times_.size() > 4 * kMost) times_.clear();
    return ++times_[batch] > kTimes;
  }

  void record(const Call& call, const at::Tensor& rows) {
    times_.erase(rows.size(0));
    try {
      calls_.emplace_front(call, rows);
    } catch (const std::exception&) {
      possible_ = false;
    }
    if (calls_.size() > kMost) calls_.pop_back();
  }

  bool possible_;
  std::list<RecordedCall> calls_;
  std::map<std::int64_t, int> times_;
};

std::string describe(const at::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.scalar_type() << " of shape " << tensor.sizes();
  return text.str();
}

}  // namespace

struct TorchScriptModel::State {
  torch::jit::Module module;
  at::Tensor output;
  bool vectorised = false;
  Recordings recordings{false};

  at::Tensor call(const at::Tensor& input) {
    // Optimising the graph takes seconds for whole-matrix models and does not pay off.
    const torch::jit::GraphOptimizerEnabledGuard unoptimised(false);
    const c10::IValue value = module.forward({input});
    if (!value.isTensor())
      throw std::runtime_error("returns " + value.tagKind() + " where one tensor is expected");
    return value.toTensor();
  }

  static at::Tensor checked(const at::Tensor& tensor, const std::vector<std::int64_t>& shape) {
    if (tensor.scalar_type() != at::kFloat || tensor.sizes() != at::IntArrayRef(shape)) {
      std::ostringstream text;
      text << "returns " << describe(tensor) << ", expected Float of shape "
           << at::IntArrayRef(shape) << " (MLMOD's column convention)";
      throw std::runtime_error(text.str());
    }
    return tensor.contiguous();
  }

  at::Tensor single(const at::Tensor& rows, std::int64_t row, std::int64_t outputs) {
    return checked(call(rows[row]), {outputs, 1});
  }

  at::Tensor looped(const at::Tensor& rows, std::int64_t outputs) {
    at::Tensor result = at::empty({rows.size(0), outputs, 1}, at::kFloat);
    for (std::int64_t row = 0; row < rows.size(0); ++row)
      result[row].copy_(single(rows, row, outputs));
    return result;
  }

  at::Tensor vmapped(const at::Tensor& rows, std::int64_t outputs) {
    const std::int64_t batch = rows.size(0);
    at::Tensor value;
    {
      const VmapLevel vmap(batch);
      const at::Tensor result = call(at::functorch::makeBatched(rows, 0, vmap.level()));
      const auto* wrapped = at::functorch::maybeGetBatchedImpl(result);
      if (wrapped && wrapped->level() == vmap.level())
        value = wrapped->value().movedim(wrapped->bdim(), 0);
      else  // does not depend on its input
        value = result.unsqueeze(0).expand({batch, -1, -1});
    }
    return checked(value, {batch, outputs, 1});
  }

  at::Tensor chunked(const at::Tensor& rows, std::int64_t outputs) {
    const std::int64_t batch = rows.size(0);
    const Call call = [&](const at::Tensor& some) { return vmapped(some, outputs); };
    if (batch <= kBatchRows) return recordings.call(call, rows);
    at::Tensor result = at::empty({batch, outputs, 1}, at::kFloat);
    for (std::int64_t begin = 0; begin < batch; begin += kBatchRows) {
      const std::int64_t count = std::min(kBatchRows, batch - begin);
      result.narrow(0, begin, count).copy_(recordings.call(call, rows.narrow(0, begin, count)));
    }
    return result;
  }
};

namespace {

at::Tensor as_rows(const std::vector<float>& input, std::int64_t batch) {
  const auto width = static_cast<std::int64_t>(input.size()) / std::max<std::int64_t>(batch, 1);
  return at::from_blob(const_cast<float*>(input.data()), {batch, width, 1}, at::kFloat);
}

}  // namespace

TorchScriptModel::TorchScriptModel(std::string tag, std::string path)
    : tag_(std::move(tag)), path_(std::move(path)), state_(std::make_unique<State>()) {
  at::set_num_threads(1);
  named_torch(label(), [&] {
    check_readable(path_);
    const c10::InferenceMode inference(false);
    state_->module = torch::jit::load(path_, at::kCPU);
    state_->module.eval();
    return 0;
  });
}

TorchScriptModel::~TorchScriptModel() = default;

std::string TorchScriptModel::label() const { return tag_ + " '" + path_ + "'"; }

std::string TorchScriptModel::prepare_batches(const std::vector<float>& samples, std::int64_t count,
                                              std::int64_t outputs) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = as_rows(samples, count);
  const at::Tensor expected = named_torch(label(), [&] { return state_->looped(rows, outputs); });
  std::string reason;
  try {
    const bool same = agree(expected, state_->vmapped(rows, outputs));
    if (!same) reason = "vectorised and single calls differ";
  } catch (const std::exception& error) {
    reason = torch_says(error);
  }
  state_->vectorised = reason.empty();
  state_->recordings = Recordings(state_->vectorised && is_straight(state_->module));
  return reason;
}

const float* TorchScriptModel::evaluate(const std::vector<float>& input, std::int64_t batch,
                                        std::int64_t outputs) {
  const at::NoGradGuard no_grad;
  if (batch == 0) return nullptr;
  const at::Tensor rows = as_rows(input, batch);
  state_->output = named_torch(label(), [&] {
    return state_->vectorised ? state_->chunked(rows, outputs) : state_->looped(rows, outputs);
  });
  return state_->output.const_data_ptr<float>();
}

const float* TorchScriptModel::evaluate_matrix(const std::vector<float>& input, std::int64_t& rows,
                                               std::int64_t& columns) {
  const at::NoGradGuard no_grad;
  state_->output = named_torch(label(), [&] {
    const at::Tensor value = state_->call(as_rows(input, 1)[0]);
    if (value.scalar_type() != at::kFloat || value.dim() != 2)
      throw std::runtime_error("returns " + describe(value) +
                               ", expected Float of shape [rows, columns]");
    return value.contiguous();
  });
  rows = state_->output.size(0);
  columns = state_->output.size(1);
  return state_->output.const_data_ptr<float>();
}

std::int64_t TorchScriptModel::first_bad_row(const float* output, std::int64_t batch,
                                             std::int64_t outputs) {
  const std::int64_t size = batch * outputs;
  unsigned bad = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, output + i, sizeof bits);
    bad |= static_cast<unsigned>((bits & 0x7F800000u) == 0x7F800000u);
  }
  if (bad == 0) return -1;
  for (std::int64_t i = 0; i < size; ++i)
    if (!std::isfinite(output[i])) return i / outputs;
  return -1;
}

}  // namespace mlmod
