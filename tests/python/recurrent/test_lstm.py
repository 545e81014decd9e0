"""LSTM: against torch.nn.LSTM, closed loops, carried states, errors."""

from __future__ import annotations

from typing import Any

import mlcore
import mlcore.reference
import numpy as np
import pytest
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import InvalidArgument
from mlcore.recurrent import LSTM

torch = pytest.importorskip("torch")
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}


class Net(torch.nn.Module):
    def __init__(self, D: int, H: int, L: int, O: int, bias: bool = True) -> None:  # noqa: E741
        super().__init__()
        self.lstm = torch.nn.LSTM(D, H, L, batch_first=True, bias=bias)
        self.out = torch.nn.Linear(H, O, bias=bias)

    def forward(self, x: Any) -> Any:
        return self.out(self.lstm(x)[0])


def net_of(D: int, H: int, L: int, O: int, dtype: Any, bias: bool = True) -> Net:  # noqa: E741
    torch.manual_seed(7)
    return Net(D, H, L, O, bias).to(dtype).eval().requires_grad_(False)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 35)] * 2, st.integers(1, 3), st.integers(1, 35)),
    batch=st.integers(1, 15),
    window=st.integers(1, 8),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_matches_torch(sizes: Any, batch: int, window: int, bias: bool, dtype: Any) -> None:
    net = net_of(*sizes, dtype, bias)
    lstm = LSTM(net)
    assert (lstm.inputs, lstm.hidden, lstm.layers, lstm.outputs) == sizes
    x = torch.randn(batch, window, sizes[0], dtype=dtype)
    want = net(x)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(lstm.step(x), want[:, -1], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(lstm.advance(x)[0], want, rtol=tolerance, atol=tolerance)
    alone = np.stack([lstm.step(row) for row in x.numpy()])
    assert np.array_equal(alone, lstm.step(x.numpy()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_size_of_the_integrator(dtype: Any) -> None:
    net = net_of(96, 32, 2, 96, dtype)
    x = torch.randn(65, 5, 96, dtype=dtype)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(LSTM(net).step(x), net(x)[:, -1], rtol=tolerance, atol=tolerance)


def test_rollout_feeds_its_own_output() -> None:
    net = net_of(6, 20, 2, 6, torch.float64)
    lstm = LSTM(net)
    window = torch.randn(3, 4, 6, dtype=torch.float64)
    frames = lstm.rollout(window, 9)
    seen, carried = window, []
    h = None
    feed = window
    for _ in range(9):
        seen = torch.cat([seen[:, 1:], net(seen)[:, -1:]], 1) if len(carried) else seen
        y, h = net.lstm(feed, h)
        feed = net.out(y[:, -1:])
        carried.append(feed)
    want, loop = [], window
    for _ in range(9):
        want.append(net(loop)[:, -1:])
        loop = torch.cat([loop[:, 1:], want[-1]], 1)
    torch.testing.assert_close(frames, torch.cat(want, 1), rtol=0, atol=1e-12)
    got = lstm.rollout(window, 9, carry=True)
    torch.testing.assert_close(got, torch.cat(carried, 1), rtol=0, atol=1e-12)
    assert torch.equal(lstm.rollout(window[1], 9), frames[1])
    assert lstm.rollout(window, 0).shape == (3, 0, 6)


def test_state_is_carried_and_not_changed() -> None:
    net = net_of(3, 10, 2, 5, torch.float32)
    lstm = LSTM(net)
    x = torch.randn(4, 7, 3)
    whole, (h, c) = lstm.advance(x)
    first, state = lstm.advance(x[:, :3])
    kept = [part.clone() for part in state]
    rest, end = lstm.advance(x[:, 3:], state)
    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(end[0], h) and torch.equal(end[1], c)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))
    want_h, want_c = net.lstm(x)[1]
    torch.testing.assert_close(h, want_h, rtol=0, atol=1e-6)
    torch.testing.assert_close(c, want_c, rtol=0, atol=1e-6)
    one, (h1, _) = lstm.advance(x[2])
    assert one.shape == (7, 5) and h1.shape == (2, 10)
    assert torch.equal(one, whole[2])


def test_threads_change_nothing() -> None:
    lstm = LSTM(net_of(5, 33, 2, 5, torch.float32))
    x = np.random.default_rng(1).standard_normal((300, 6, 5)).astype(np.float32)
    want = lstm.rollout(x, 20, num_threads=1)
    for threads in (2, 7):
        assert np.array_equal(lstm.rollout(x, 20, num_threads=threads), want)


def test_reference() -> None:
    net = net_of(4, 9, 2, 3, torch.float64)
    x = np.random.default_rng(2).standard_normal((5, 6, 4))
    want = mlcore.reference.lstm(net, x)
    np.testing.assert_allclose(LSTM(net).advance(x)[0], want, atol=1e-13)
    np.testing.assert_allclose(net(torch.from_numpy(x)).numpy(), want, atol=1e-13)


def test_kinds_out_and_layouts() -> None:
    net = net_of(4, 8, 1, 4, torch.float32)
    lstm = mlcore.LSTM(net.state_dict())
    x = np.random.default_rng(3).standard_normal((6, 5, 4)).astype(np.float32)
    want = lstm.step(x)
    assert want.dtype == np.float32 and want.shape == (6, 4)
    assert np.array_equal(lstm.step(np.asfortranarray(x)), want)
    assert np.array_equal(lstm.step(np.repeat(x, 2, 0)[::2]), want)
    shifted = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert np.array_equal(lstm.step(shifted), want)
    assert np.array_equal(lstm.step(x.tolist()), want)
    tensor = lstm.step(torch.from_numpy(x))
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), want)
    out = np.empty_like(want)
    assert lstm.step(x, out) is out and np.array_equal(out, want)
    one = np.empty(4, np.float32)
    assert lstm.step(x[3], out=one) is one and np.array_equal(one, want[3])
    frames = torch.empty(6, 3, 4)
    assert lstm.rollout(torch.from_numpy(x), 3, out=frames) is frames
    assert lstm.step(x[:0]).shape == (0, 4)
    bare = net.lstm.state_dict()
    assert LSTM(bare).step(x).shape == (6, 8)
    wide = LSTM({name: array.double().numpy() for name, array in net.state_dict().items()})
    assert wide.step(x).dtype == np.float64


def weights(**change: Any) -> dict[str, Any]:
    state = dict(net_of(3, 4, 2, 5, torch.float32).state_dict())
    for name, value in change.items():
        key = name.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"lstm__weight_ih_l1": torch.zeros(16, 3)}, r"weight_ih_l1 must have the shape \(16, 4\)"),
        ({"lstm__weight_hh_l0": torch.zeros(12, 4)}, r"weight_hh_l0 must have the shape \(16, 4\)"),
        ({"lstm__bias_ih_l0": torch.zeros(15)}, r"bias_ih_l0 must have the shape \(16,\)"),
        ({"out__weight": torch.zeros(5, 3)}, r"output's weight must have the shape \(5, 4\)"),
        ({"out__bias": torch.zeros(3)}, r"output's bias must have the shape \(5,\)"),
        ({"out__weight": torch.full((5, 4), torch.nan)}, "output's weight must be finite"),
        ({"lstm__weight_ih_l0_reverse": torch.zeros(16, 3)}, "unidirectional"),
        ({"other__weight": torch.zeros(5, 5)}, "at most one torch.nn.Linear"),
        ({"lstm__weight_hh_l1": None}, "must hold weight_hh_l1"),
        ({"more__weight_ih_l0": torch.zeros(16, 3)}, "one LSTM"),
        ({"lstm__weight_ih_l0": torch.zeros(16, 3).double()}, "all be float32 or all float64"),
        ({"lstm__weight_ih_l0": torch.zeros(16, 3).half()}, "must be float32 or float64"),
    ],
)
def test_bad_weights_are_named(change: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidArgument, match=what):
        LSTM(weights(**change))


def test_no_layers() -> None:
    with pytest.raises(InvalidArgument, match="must all be float32 or all float64, got none"):
        LSTM({})
    with pytest.raises(InvalidArgument, match="must hold the layers"):
        LSTM({"out.weight": np.zeros((2, 2))})


def test_bad_input_is_named() -> None:
    lstm = LSTM(weights())
    x = np.zeros((2, 3, 3), np.float32)
    with pytest.raises(
        InvalidArgument, match=r"x must have the shape \(2, 3, 3\), got \(2, 3, 2\)"
    ):
        lstm.step(x[:, :, :2].copy())
    with pytest.raises(InvalidArgument, match="at least one frame"):
        lstm.step(x[:, :0])
    with pytest.raises(InvalidArgument, match=r"\(S, D\) or \(B, S, D\)"):
        lstm.step(x[0, 0])
    with pytest.raises(InvalidArgument, match="x is float64, the network float32"):
        lstm.step(x.astype(np.float64))
    with pytest.raises(InvalidArgument, match="as many outputs as inputs"):
        lstm.rollout(x, 3)
    with pytest.raises(InvalidArgument, match="n must not be negative"):
        lstm.rollout(x, -1)
    with pytest.raises(InvalidArgument, match="out must have the length 5 along axis 1"):
        lstm.step(x, out=np.empty((2, 4), np.float32))
    with pytest.raises(InvalidArgument, match="out must have the dtype float32"):
        lstm.step(x, out=np.empty((2, 5)))
    with pytest.raises(InvalidArgument, match=r"h must have the shape \(2, 2, 4\)"):
        lstm.advance(x, (np.zeros((2, 1, 4), "f4"), np.zeros((2, 2, 4), "f4")))
    with pytest.raises(InvalidArgument, match="c is float64, the network float32"):
        lstm.advance(x, (np.zeros((2, 2, 4), "f4"), np.zeros((2, 2, 4))))
    for bad in (np.nan, np.inf):
        y = x.copy()
        y[1, 2, 0] = bad
        for call in (lstm.step, lstm.advance):
            with pytest.raises(InvalidArgument, match="x must be finite, but entry 15"):
                call(y)


@pytest.mark.gpu
def test_gpu_matches_cpu() -> None:
    gpu = device_named("cuda")
    for dtype in (torch.float32, torch.float64):
        lstm = LSTM(net_of(7, 20, 2, 7, dtype))
        x = torch.randn(5, 4, 7, dtype=dtype)
        there = gpu.put(x.numpy())
        for carry in (False, True):
            want = lstm.rollout(x, 12, carry=carry)
            got = gpu.get(lstm.rollout(there, 12, carry=carry))
            np.testing.assert_allclose(got, want, rtol=0, atol=20 * TOLERANCE[dtype])
        got = torch.from_numpy(gpu.get(lstm.advance(there)[0]))
        torch.testing.assert_close(got, lstm.advance(x)[0])
