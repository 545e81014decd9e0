#include "models/lstm_engine.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlcore/recurrent.hpp"
#include "models/native_rows.h"
#include "named_errors.h"

namespace mlmod {

namespace {

constexpr mlcore::Context kOneThread{.threads = 1};

/// Shifts and scales of a member and its network.
template <class Real>
class Member {
 public:
  Member(const NativeParts& native, std::int64_t number)
      : prefix_("m" + std::to_string(number) + "."),
        in_shift_(values(native, "in_shift")),
        in_scale_(values(native, "in_scale")),
        out_shift_(values(native, "out_shift")),
        out_scale_(values(native, "out_scale")),
        network_(make(native)) {}

  const mlcore::Lstm<Real>& network() const { return network_; }

  void normalise(const std::vector<double>& given, std::vector<Real>& rows) const {
    rows.resize(given.size());
    for (std::size_t k = 0, column = 0; k < given.size(); ++k) {
      rows[k] = static_cast<Real>((given[k] - in_shift_[column]) / in_scale_[column]);
      if (++column == in_shift_.size()) column = 0;
    }
  }

  void scale(const std::vector<Real>& rows, std::vector<double>& out) const {
    out.resize(rows.size());
    for (std::size_t k = 0, column = 0; k < rows.size(); ++k) {
      out[k] = static_cast<double>(rows[k]) * out_scale_[column] + out_shift_[column];
      if (++column == out_shift_.size()) column = 0;
    }
  }

 private:
  const std::vector<double>& values(const NativeParts& native, const std::string& name) const {
    return native.tensors.at(prefix_ + name).values;
  }

  mlcore::Lstm<Real> make(const NativeParts& native) const {
    std::vector<std::vector<Real>> kept;
    const auto converted = [&](const std::string& name) {
      const std::vector<double>& given = values(native, name);
      return kept.emplace_back(given.begin(), given.end()).data();
    };
    const auto matrix = [&](const std::string& name) -> mlcore::View<const Real, 2> {
      const auto& shape = native.tensors.at(prefix_ + name).shape;
      return {converted(name),
              {static_cast<std::int64_t>(shape[0]), static_cast<std::int64_t>(shape[1])}};
    };
    const auto vector = [&](const std::string& name) -> mlcore::View<const Real, 1> {
      return {converted(name), {static_cast<std::int64_t>(values(native, name).size())}};
    };
    mlcore::LstmWeights<Real> weights;
    for (std::size_t layer = 0; layer < native.layers; ++layer) {
      const std::string name = "lstm" + std::to_string(layer) + ".";
      weights.layers.push_back({.w_ih = matrix(name + "w_ih"),
                                .w_hh = matrix(name + "w_hh"),
                                .b_ih = vector(name + "b"),
                                .b_hh = {}});
    }
    weights.out_weight = matrix("head.w");
    weights.out_bias = vector("head.b");
    return mlcore::Lstm<Real>(weights);
  }

  std::string prefix_;
  std::vector<double> in_shift_, in_scale_, out_shift_, out_scale_;
  mlcore::Lstm<Real> network_;
};

template <class Real>
class LstmEngine final : public Engine {
 public:
  explicit LstmEngine(const ModelBundle& bundle)
      : label_("bundle '" + bundle.folder + "'"), rows_(bundle) {
    named(label_, [&] {
      for (std::int64_t k = 0; k < bundle.members; ++k) members_.emplace_back(*bundle.native, k);
    });
  }

  std::string name() const override { return "native"; }
  std::string label(std::int64_t) const override { return label_; }

  void evaluate(std::int64_t, const Neighborhood&, Evaluation&) override {
    throw std::logic_error(label_ + ": a recurrent network sees no neighbors");
  }

  void evaluate(std::int64_t number, const Particles& where, Evaluation& result) override {
    const Member<Real>& member = members_[static_cast<std::size_t>(number)];
    const mlcore::Lstm<Real>& network = member.network();
    const std::int64_t rows = rows_.fill(where, network.inputs(), given_);
    member.normalise(given_, input_);
    output_.resize(static_cast<std::size_t>(rows * network.outputs()));
    take_up(network, rows, where.memory);
    if (rows > 0) named(label_, [&] { advance(network, rows); });
    member.scale(output_, given_);
    rows_.give(where, given_, result);
    put_down(network, rows, result.memory);
  }

 private:
  void advance(const mlcore::Lstm<Real>& network, std::int64_t rows) {
    const std::int64_t layers = network.layers(), hidden = network.hidden();
    const mlcore::LstmState<Real> state{
        .h = {state_.data(), {layers, rows, hidden}},
        .c = {state_.data() + layers * rows * hidden, {layers, rows, hidden}}};
    network.advance(kOneThread, {input_.data(), {rows, 1, network.inputs()}}, state,
                    {output_.data(), {rows, 1, network.outputs()}});
  }

  // The memory of a row holds h and c of each layer together, the core those of all rows.
  void take_up(const mlcore::Lstm<Real>& network, std::int64_t rows, const double* memory) {
    const std::int64_t parts = 2 * network.layers(), hidden = network.hidden();
    state_.resize(static_cast<std::size_t>(parts * rows * hidden));
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t part = 0; part < parts; ++part)
        std::copy_n(memory + (row * parts + part) * hidden, hidden,
                    state_.data() + (part * rows + row) * hidden);
  }

  void put_down(const mlcore::Lstm<Real>& network, std::int64_t rows,
                std::vector<double>& memory) const {
    const std::int64_t parts = 2 * network.layers(), hidden = network.hidden();
    memory.resize(state_.size());
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t part = 0; part < parts; ++part)
        std::copy_n(state_.data() + (part * rows + row) * hidden, hidden,
                    memory.data() + (row * parts + part) * hidden);
  }

  std::string label_;
  NativeRows rows_;
  std::vector<Member<Real>> members_;
  std::vector<double> given_;
  std::vector<Real> input_, output_, state_;
};

}  // namespace

std::unique_ptr<Engine> make_lstm_engine(const ModelBundle& bundle, bool single_precision) {
  if (single_precision) return std::make_unique<LstmEngine<float>>(bundle);
  return std::make_unique<LstmEngine<double>>(bundle);
}

}  // namespace mlmod
