#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/recurrent.hpp"
#include "mlcore/reference/recurrent.hpp"
#include "pooled_arrays.hpp"

namespace mlcore::python {
namespace {

/// A network and the arrays its weights came in, which the reference reads.
template <class T>
struct OwnedLstm {
  using Optional = std::optional<Array<T>>;
  using LayerArrays = std::tuple<Array<T>, Array<T>, Optional, Optional>;

  OwnedLstm(const std::vector<LayerArrays>& layers, const Optional& out_weight,
            const Optional& out_bias)
      : arrays(layers), out_weight(out_weight), out_bias(out_bias), lstm(weights()) {}

  static View<const T, 1> vector(const char* name, const Optional& array) {
    return array ? input_view<T, 1>(name, *array, {-1}) : View<const T, 1>();
  }

  LstmWeights<T> weights() const {
    LstmWeights<T> result;
    for (const auto& [w_ih, w_hh, b_ih, b_hh] : arrays) {
      result.layers.push_back({input_view<T, 2>("weight_ih", w_ih, {-1, -1}),
                               input_view<T, 2>("weight_hh", w_hh, {-1, -1}),
                               vector("bias_ih", b_ih), vector("bias_hh", b_hh)});
    }
    if (out_weight) {
      result.out_weight = input_view<T, 2>("the output's weight", *out_weight, {-1, -1});
    }
    result.out_bias = vector("the output's bias", out_bias);
    return result;
  }

  std::vector<LayerArrays> arrays;
  Optional out_weight, out_bias;
  Lstm<T> lstm;
};

/// The GIL goes for calls of more than a few microseconds only: giving it up costs a tenth of one.
template <class T, class Call>
void without_gil(const OwnedLstm<T>& owned, std::int64_t frames, const Call& call) {
  constexpr std::int64_t kSmall = 1'000'000;
  const std::int64_t H = owned.lstm.hidden();
  if (4 * H * (owned.lstm.inputs() + 2 * owned.lstm.layers() * H) <
      kSmall / std::max<std::int64_t>(frames, 1)) {
    return call();
  }
  py::gil_scoped_release release;
  call();
}

/// (B, S, D) of a NumPy array (S, D) or (B, S, D) as it lies; false for anything else.
template <class T>
bool plain_window(const py::handle& x, View<const T, 3>& view) {
  if (!py::isinstance<py::array>(x)) return false;
  const auto array = py::reinterpret_borrow<py::array>(x);
  const auto dims = array.ndim();
  if ((dims != 2 && dims != 3) || !(array.flags() & py::array::c_style) ||
      !py::array_t<T, py::array::c_style>::check_(array)) {
    return false;
  }
  const py::ssize_t* shape = array.shape();
  view = {static_cast<const T*>(array.data()),
          {dims == 3 ? shape[0] : 1, shape[dims - 2], shape[dims - 1]}};
  return true;
}

/// The fast way for NumPy arrays that need no conversion; None: take the general one.
template <class T>
py::object step(const OwnedLstm<T>& owned, const py::handle& x, const py::object& out,
                int threads) {
  View<const T, 3> view;
  if (!plain_window(x, view)) return py::none();
  if (!out.is_none() && !py::isinstance<py::array>(out)) return py::none();
  const std::int64_t O = owned.lstm.outputs();
  const bool batched = py::reinterpret_borrow<py::array>(x).ndim() == 3;
  py::array result = !out.is_none() ? py::cast<py::array>(out)
                     : batched      ? py::array(pooled_array<T, 2>({view.shape[0], O}))
                                    : py::array(pooled_array<T, 1>({O}));
  const View<T, 2> y = batched ? output_view<T, 2>("out", result, {view.shape[0], O})
                               : View<T, 2>(output_view<T, 1>("out", result, {O}).data, {1, O});
  MLCORE_CHECK(view.end() <= y.begin() || y.end() <= view.begin(),
               "out and x share memory; give out memory of its own");
  without_gil(owned, view.shape[0] * view.shape[1],
              [&] { owned.lstm.step(Context{threads}, view, y); });
  return std::move(result);
}

Context context_of(int threads, std::uintptr_t stream) {
  return {threads, reinterpret_cast<void*>(stream)};
}

template <class T>
void step_any(const OwnedLstm<T>& owned, const py::object& x, const py::object& y, int threads,
              std::uintptr_t stream) {
  Array<T> holder;
  const auto in = any_input<T, 3>("x", x, holder, {-1, -1, -1});
  const auto out = any_output<T, 2>("out", y, {in.shape[0], owned.lstm.outputs()});
  py::gil_scoped_release release;
  owned.lstm.step(context_of(threads, stream), in, out);
}

template <class T>
void rollout(const OwnedLstm<T>& owned, const py::object& window, const py::object& frames,
             bool carry, int threads, std::uintptr_t stream) {
  Array<T> holder;
  const auto in = any_input<T, 3>("window", window, holder, {-1, -1, -1});
  const auto n = py::cast<std::int64_t>(py::tuple(frames.attr("shape"))[1]);
  const auto out = any_output<T, 3>("out", frames, {in.shape[0], n, owned.lstm.outputs()});
  py::gil_scoped_release release;
  owned.lstm.rollout(context_of(threads, stream), in, out, carry);
}

template <class T>
void advance(const OwnedLstm<T>& owned, const py::object& x, const py::object& h,
             const py::object& c, const py::object& y, bool reference, int threads,
             std::uintptr_t stream) {
  Array<T> holder;
  const auto in = any_input<T, 3>("x", x, holder, {-1, -1, -1});
  const Lstm<T>& lstm = owned.lstm;
  const std::array<std::int64_t, 3> shape{lstm.layers(), in.shape[0], lstm.hidden()};
  const LstmState<T> state{any_output<T, 3>("h", h, shape), any_output<T, 3>("c", c, shape)};
  const auto out = any_output<T, 3>("out", y, {in.shape[0], in.shape[1], lstm.outputs()});
  py::gil_scoped_release release;
  if (!reference) return lstm.advance(context_of(threads, stream), in, state, out);
  std::vector<T> frame(in.shape[0] * in.shape[2]), value(in.shape[0] * out.shape[2]);
  for (std::int64_t s = 0; s < in.shape[1]; ++s) {
    for (std::int64_t b = 0; b < in.shape[0]; ++b) {
      std::copy_n(&in(b, s, 0), in.shape[2], &frame[b * in.shape[2]]);
    }
    reference::lstm_frame<T>(owned.weights(), {frame.data(), {in.shape[0], in.shape[2]}}, state,
                             {value.data(), {in.shape[0], out.shape[2]}});
    for (std::int64_t b = 0; b < in.shape[0]; ++b) {
      std::copy_n(&value[b * out.shape[2]], out.shape[2], &out(b, s, 0));
    }
  }
}

template <class T>
void export_lstm(py::module_& m, const char* name) {
  using Owned = OwnedLstm<T>;
  py::class_<Owned>(m, name)
      .def(py::init<const std::vector<typename Owned::LayerArrays>&,
                    const typename Owned::Optional&, const typename Owned::Optional&>(),
           py::arg("layers"), py::arg("out_weight") = py::none(), py::arg("out_bias") = py::none())
      .def_property_readonly("inputs", [](const Owned& o) { return o.lstm.inputs(); })
      .def_property_readonly("hidden", [](const Owned& o) { return o.lstm.hidden(); })
      .def_property_readonly("layers", [](const Owned& o) { return o.lstm.layers(); })
      .def_property_readonly("outputs", [](const Owned& o) { return o.lstm.outputs(); })
      .def("step", &step<T>, py::arg("x"), py::arg("out"), py::arg("num_threads"))
      .def("step_any", &step_any<T>, py::arg("x"), py::arg("out"), py::arg("num_threads") = 0,
           py::arg("stream") = 0)
      .def("rollout", &rollout<T>, py::arg("window"), py::arg("out"), py::arg("carry") = false,
           py::arg("num_threads") = 0, py::arg("stream") = 0)
      .def("advance", &advance<T>, py::arg("x"), py::arg("h"), py::arg("c"), py::arg("out"),
           py::arg("reference") = false, py::arg("num_threads") = 0, py::arg("stream") = 0);
}

}  // namespace

void export_recurrent(py::module_& m) {
  export_lstm<float>(m, "LstmFloat32");
  export_lstm<double>(m, "LstmFloat64");
}

}  // namespace mlcore::python
