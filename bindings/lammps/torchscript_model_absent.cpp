// Stands in for torchscript_model.cpp in a build without torch: no model can be made.
#include <stdexcept>
#include <utility>

#include "torchscript_model.h"

namespace mlmod {

struct TorchScriptModel::State {};

namespace {

[[noreturn]] void refuse(const std::string& label) {
  throw std::runtime_error(label +
                           ": this plugin was built without torch, which .pt files need; build it "
                           "with torch: mlcore lammps build");
}

}  // namespace

TorchScriptModel::TorchScriptModel(std::string tag, std::string path)
    : tag_(std::move(tag)), path_(std::move(path)) {
  refuse(label());
}

TorchScriptModel::~TorchScriptModel() = default;

std::string TorchScriptModel::label() const { return tag_ + " '" + path_ + "'"; }

std::string TorchScriptModel::prepare_batches(const std::vector<float>&, std::int64_t,
                                              std::int64_t) {
  refuse(label());
}

const float* TorchScriptModel::evaluate(const std::vector<float>&, std::int64_t, std::int64_t) {
  refuse(label());
}

const float* TorchScriptModel::evaluate_matrix(const std::vector<float>&, std::int64_t&,
                                               std::int64_t&) {
  refuse(label());
}

std::int64_t TorchScriptModel::first_bad_row(const float*, std::int64_t, std::int64_t) {
  return -1;
}

}  // namespace mlmod
