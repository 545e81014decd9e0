"""Small fully connected networks: values, and values with gradients by the inputs, batches of rows.

Two sizes in use: 16 inputs (an atom's descriptors), two layers of 64 units, one energy, SiLU, many
rows, float64 and float32; and 192 inputs (a configuration of 32 particles), two layers of 128, 96
outputs, tanh, one row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main

Call = Callable[[], Any]


def network(widths: tuple[int, ...], activation: str, dtype: Any) -> Any:
    import torch

    torch.manual_seed(0)
    kinds = {"silu": torch.nn.SiLU, "tanh": torch.nn.Tanh}
    parts: list[Any] = []
    for k in range(len(widths) - 1):
        parts += [torch.nn.Linear(widths[k], widths[k + 1]), kinds[activation]()]
    return torch.nn.Sequential(*parts[:-1]).to(dtype).eval().requires_grad_(False)


def numpy_calls(net: Any, activation: str, x: Any) -> tuple[Call, Call]:
    layers = [(p.weight.numpy(), p.bias.numpy()) for p in net if hasattr(p, "weight")]

    def forward() -> tuple[Any, list[Any]]:
        h, slopes = x, []
        for w, b in layers[:-1]:
            z = h @ w.T + b
            if activation == "tanh":
                h = np.tanh(z)
                slopes.append(1 - h * h)
            else:
                s = 1 / (1 + np.exp(-z))
                h = z * s
                slopes.append(s + h * (1 - s))
        return h @ layers[-1][0].T + layers[-1][1], slopes

    def gradient() -> Any:
        y, slopes = forward()
        v = np.ones_like(y)
        for (w, _), slope in zip(layers[:0:-1], slopes[::-1], strict=True):
            v = (v @ w) * slope
        return y, v @ layers[0][0]

    return lambda: forward()[0], gradient


def torch_calls(net: Any, x: Any) -> tuple[dict[str, Call], dict[str, Call]]:
    import torch

    rows = torch.from_numpy(x)
    frozen = torch.jit.freeze(torch.jit.trace(net, rows))

    def with_gradient(module: Any) -> Call:
        def run() -> Any:
            leaf = rows.detach().requires_grad_()
            with torch.enable_grad():
                y = module(leaf)
                (dx,) = torch.autograd.grad(y.sum(), leaf)
            return y.detach().numpy(), dx.numpy()

        return run

    forward: dict[str, Call] = {
        "torch eager": lambda: net(rows).numpy(),
        "torch.jit frozen": lambda: frozen(rows).numpy(),
    }
    gradient = {"torch eager": with_gradient(net), "torch.jit frozen": with_gradient(frozen)}
    for call in (*forward.values(), *gradient.values()):
        for _ in range(4):
            call()
    return forward, gradient


def onnx_call(net: Any, x: Any, threads: int) -> Call:
    import onnxruntime
    import torch

    path = Path(tempfile.mkdtemp(), "mlp.onnx")
    torch.onnx.export(
        net, (torch.from_numpy(x),), str(path), dynamo=False, input_names=["x"], output_names=["y"]
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def agree(calls: dict[str, Call], tolerance: float) -> None:
    want = calls["mlcore"]()
    for name, call in calls.items():
        got = call()
        pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
        for a, b in pairs:
            assert np.abs(a - b).max() < tolerance, f"{name} differs by {np.abs(a - b).max()}"


def cases(setup: Setup) -> Iterator[Case]:
    import torch

    torch.set_num_threads(setup.threads)
    torch.set_grad_enabled(False)
    mlcore.set_num_threads(setup.threads)
    for name, widths, activation, batch, dtype, inner in (
        ("atoms 10^4 f64", (16, 64, 64, 1), "silu", 10_000, "float64", 1),
        ("atoms 10^4 f32", (16, 64, 64, 1), "silu", 10_000, "float32", 1),
        ("one configuration f64", (192, 128, 128, 96), "tanh", 1, "float64", 50),
        ("one configuration f32", (192, 128, 128, 96), "tanh", 1, "float32", 50),
    ):
        net = network(widths, activation, getattr(torch, dtype))
        mlp = mlcore.MLP(net)
        x = np.random.default_rng(1).normal(size=(batch, widths[0])).astype(dtype)
        flops = batch * sum(a * b for a, b in pairwise(widths))
        limit = 2 * flops / setup.limits["fma64" if dtype == "float64" else "fma32"]
        by_numpy = numpy_calls(net, activation, x)
        torchs = torch_calls(net, x)
        forward = {"mlcore": lambda m=mlp, x=x: m(x), **torchs[0], "numpy": by_numpy[0]}
        gradient = {
            "mlcore": lambda m=mlp, x=x: m.value_and_gradient(x),
            **torchs[1],
            "numpy": by_numpy[1],
        }
        missing = {}
        if installed("onnxruntime") and installed("onnx"):
            forward["onnxruntime"] = onnx_call(net, x, setup.threads)
        else:
            missing["onnxruntime"] = "onnxruntime or onnx is not installed"
        tolerance = 1e-11 if dtype == "float64" else 1e-4
        agree(forward, tolerance)
        agree(gradient, tolerance)
        yield Case(f"values, {name}", forward, limit, 1.3, inner=inner, missing=missing)
        yield Case(f"with gradients, {name}", gradient, 2 * limit, 1.5, inner=inner)


if __name__ == "__main__":
    main(cases, __doc__)
