"""Copies and pickles of networks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from mlcore.errors import InvalidArgument
from mlcore.recurrent import LSTM

torch = pytest.importorskip("torch")
COPIES = {
    "pickle": lambda network: pickle.loads(pickle.dumps(network)),
    "old pickle": lambda network: pickle.loads(pickle.dumps(network, protocol=2)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def state_dict(dtype: Any, *, bias: bool, out: bool) -> dict[str, Any]:
    torch.manual_seed(3)
    lstm = torch.nn.LSTM(6, 10, 2, bias=bias, dtype=dtype)
    named = {f"net.{name}": value for name, value in lstm.state_dict().items()}
    if out:
        linear = torch.nn.Linear(10, 6, bias=bias, dtype=dtype)
        named |= {f"readout.{name}": value for name, value in linear.state_dict().items()}
    return named


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("out", [False, True])
def test_copies_give_the_same_bits(how: str, dtype: Any, bias: bool, out: bool) -> None:
    network = LSTM(state_dict(dtype, bias=bias, out=out))
    other = COPIES[how](network)
    assert type(other) is LSTM and other.core is not network.core
    assert other.dtype == network.dtype
    for name in ("inputs", "hidden", "layers", "outputs"):
        assert getattr(other, name) == getattr(network, name)
    x = np.random.default_rng(5).standard_normal((9, 4, 6)).astype(network.dtype)
    assert np.array_equal(other.step(x), network.step(x))
    (y, state), (want, kept) = other.advance(x), network.advance(x)
    assert np.array_equal(y, want)
    assert all(np.array_equal(a, b) for a, b in zip(state, kept, strict=True))
    if out:
        assert np.array_equal(other.rollout(x, 5), network.rollout(x, 5))
    again = COPIES[how](other)
    assert np.array_equal(again.step(x), network.step(x))


def test_what_happens_to_the_weights_later_does_not_matter() -> None:
    named = state_dict(torch.float64, bias=True, out=True)
    network = LSTM(named)
    x = np.random.default_rng(5).standard_normal((4, 6))
    want = network.step(x)
    for tensor in named.values():
        tensor.zero_()
    assert np.array_equal(network.step(x), want)
    assert np.array_equal(pickle.loads(pickle.dumps(network)).step(x), want)


@pytest.mark.parametrize("weights", [None, 3, "abc", object(), {1: np.zeros((4, 4))}, [1, 2]])
def test_what_is_no_network_is_told(weights: Any) -> None:
    with pytest.raises(InvalidArgument, match="weights must be a torch module or a mapping"):
        LSTM(weights)


def test_states_and_flags_of_the_wrong_kind_are_told() -> None:
    network = LSTM(state_dict(torch.float64, bias=True, out=True))
    x = np.zeros((4, 6))
    for state in (3, "ab", np.zeros((2, 2, 10)), (1,), (1, 2, 3), object()):
        with pytest.raises(InvalidArgument, match="state must be"):
            network.advance(x, state)
    with pytest.raises(InvalidArgument, match="state: c must be an array of real numbers"):
        network.advance(x, (np.zeros((2, 10)), "abc"))
    with pytest.raises(InvalidArgument, match="carry must be True or False, got 'yes'"):
        network.rollout(x, 3, carry="yes")
