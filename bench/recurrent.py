"""LSTM integrator: 2 layers of 32 units, 96 numbers in and out, windows of 5 frames, float32.

One step is one window through the network; the roll-out feeds 100 predictions back in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main

D, H, S = 96, 32, 5
FLOPS = S * 2 * 4 * H * ((D + H) + (H + H)) + 2 * H * D
STEPS = 100


def network() -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(D, H, 2, batch_first=True)
            self.out = torch.nn.Linear(H, D)

        def forward(self, x: Any) -> Any:
            return self.out(self.lstm(x)[0][:, -1])

    torch.manual_seed(0)
    return Net().eval()


def sigmoid(v: Any) -> Any:
    return 1 / (1 + np.exp(-v))


def layers_of(W: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
    return [
        (
            W[f"lstm.weight_ih_l{k}"],
            W[f"lstm.weight_hh_l{k}"],
            W[f"lstm.bias_ih_l{k}"] + W[f"lstm.bias_hh_l{k}"],
        )
        for k in (0, 1)
    ]


def numpy_step(W: dict[str, Any], x: Any) -> Any:
    h = [np.zeros((x.shape[0], H), "f4")] * 2
    c = list(h)
    for s in range(S):
        y = x[:, s]
        for k, (w_ih, w_hh, bias) in enumerate(layers_of(W)):
            g = y @ w_ih.T + h[k] @ w_hh.T + bias
            kept = sigmoid(g[:, H : 2 * H]) * c[k]
            c[k] = kept + sigmoid(g[:, :H]) * np.tanh(g[:, 2 * H : 3 * H])
            y = h[k] = sigmoid(g[:, 3 * H :]) * np.tanh(c[k])
    return y @ W["out.weight"].T + W["out.bias"]


def numba_step(W: dict[str, Any]) -> Callable[[Any], Any]:
    import numba

    @numba.njit(fastmath=True)
    def cell(wx: Any, wh: Any, b: Any, x: Any, h: Any, c: Any) -> None:
        g = b + wx @ x + wh @ h
        for k in range(H):
            i = 1 / (1 + np.exp(-g[k]))
            f = 1 / (1 + np.exp(-g[H + k]))
            o = 1 / (1 + np.exp(-g[3 * H + k]))
            c[k] = f * c[k] + i * np.tanh(g[2 * H + k])
            h[k] = o * np.tanh(c[k])

    @numba.njit(fastmath=True)
    def step(w0, u0, b0, w1, u1, b1, wo, bo, x):  # type: ignore[no-untyped-def]
        z = np.zeros((4, H), np.float32)
        for s in range(S):
            cell(w0, u0, b0, x[s], z[0], z[1])
            cell(w1, u1, b1, z[0], z[2], z[3])
        return wo @ z[2] + bo

    (w0, u0, b0), (w1, u1, b1) = layers_of(W)
    arrays = (w0, u0, b0, w1, u1, b1, W["out.weight"], W["out.bias"])
    return lambda x: step(*arrays, x)


def onnx_step(net: Any, x: Any, threads: int) -> Callable[[Any], Any]:
    import onnxruntime
    import torch

    path = Path(tempfile.mkdtemp(), "lstm.onnx")
    torch.onnx.export(net, (x,), str(path), dynamo=False, input_names=["x"], output_names=["y"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda window: session.run(None, {"x": window})[0]


def roll(step: Callable[[Any], Any], start: Any) -> Any:
    window = start.copy()
    for _ in range(STEPS):
        y = step(window)
        window[:, :-1] = window[:, 1:]
        window[:, -1] = y
    return window


def steps_of(
    net: Any, W: dict[str, Any], x: Any, threads: int
) -> tuple[dict[str, Callable[[Any], Any]], dict[str, str]]:
    """One step of every peer on NumPy windows, and the peers that are not there."""
    import torch

    frozen = torch.jit.freeze(torch.jit.trace(net, x))
    for _ in range(5):
        frozen(x)
    steps: dict[str, Callable[[Any], Any]] = {
        "torch eager": lambda w: net(torch.from_numpy(w)).numpy(),
        "torch.jit frozen": lambda w: frozen(torch.from_numpy(w)).numpy(),
        "numpy": lambda w: numpy_step(W, w),
    }
    missing = {}
    if installed("onnxruntime") and installed("onnx"):
        steps["onnxruntime"] = onnx_step(net, x, threads)
    else:
        missing["onnxruntime"] = "onnxruntime or onnx is not installed"
    if not installed("numba"):
        missing["numba"] = "numba is not installed"
    elif len(x) == 1:
        one = numba_step(W)
        steps["numba"] = lambda w: one(w[0])
    return steps, missing


def cases(setup: Setup) -> Iterator[Case]:
    import torch

    torch.set_num_threads(setup.threads)
    torch.set_grad_enabled(False)
    mlcore.set_num_threads(setup.threads)
    net = network()
    ours = mlcore.LSTM(net)
    W = {name: value.numpy() for name, value in net.state_dict().items()}
    limit = FLOPS / setup.limits["fma32"]
    for batch, must in ((1, 4.0), (64, 1.3)):
        x = torch.randn(batch, S, D)
        window = x.numpy()
        peers, missing = steps_of(net, W, x, setup.threads)
        for name, step in peers.items():
            error = np.abs(step(window) - ours.step(window)).max()
            assert error < 1e-5, f"{name} differs by {error}"
        calls = {"mlcore": lambda w: ours.step(w)} | peers
        yield Case(
            f"lstm step batch={batch}",
            {name: (lambda f=f, w=window: f(w)) for name, f in calls.items()},
            limit=batch * limit,
            must=must,
            against=("onnxruntime",) if "onnxruntime" in peers else (),
            inner=50 if batch == 1 else 2,
            missing=missing,
        )
        if batch > 1:
            continue
        del peers["numpy"]
        rolls = {name: (lambda f=f, w=window: roll(f, w)) for name, f in peers.items()}
        yield Case(
            "lstm rollout of 100",
            {
                "mlcore": lambda w=window: ours.rollout(w, STEPS),
                "mlcore, state carried": lambda w=window: ours.rollout(w, STEPS, carry=True),
                **rolls,
            },
            limit=STEPS * limit,
            must=4.0,
            against=("onnxruntime",) if "onnxruntime" in peers else (),
            note="state carried: one frame per prediction, another network than its peers'",
        )


if __name__ == "__main__":
    main(cases, __doc__)
