"""mlcore.random against an independent Philox written here, and its statistics."""

from __future__ import annotations

import itertools
import math

import mlcore.random
import mlcore.reference
import numpy as np
import pytest
from devices import device_named
from mlcore import _core
from mlcore.errors import InvalidArgument
from scipy import stats

FALSE_ALARM = 1e-6
MASK = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 in integers of any length, from the paper."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


# Published with the Random123 library (kat_vectors).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (MASK, MASK, MASK, MASK),
        (MASK, MASK),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert tuple(_core.philox4x32(counter, key)) == words
    assert philox(counter, key) == words


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 12345, 2**64 - 1])
@pytest.mark.parametrize("step", [0, 2**32 - 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("stream", [0, 7, 2**30 - 1])
def test_normals_come_from_the_documented_words(seed: int, step: int, stream: int) -> None:
    tags = [0, 1, 2, 77, 2**32 - 1]
    got = mlcore.random.normal(seed, stream, step, tags)
    for row, tag in zip(got, tags, strict=True):
        words = philox((step & MASK, step >> 32, tag, 4 * stream), (seed & MASK, seed >> 32))
        u = [(word + 0.5) / 2**32 for word in words]
        xy, z = math.sqrt(-2 * math.log(u[0])), math.sqrt(-2 * math.log(u[2]))
        expected = [
            xy * math.cos(2 * math.pi * u[1]),
            xy * math.sin(2 * math.pi * u[1]),
            z * math.cos(2 * math.pi * u[3]),
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-12, atol=1e-12)


def test_numbers_belong_to_the_tag() -> None:
    everyone = mlcore.random.normal(3, 1, 9, np.arange(1000))
    chosen = np.array([999, 0, 17, 17, 512])
    assert np.array_equal(mlcore.random.normal(3, 1, 9, chosen), everyone[chosen])
    for threads in (1, 2, 7):
        again = mlcore.random.normal(3, 1, 9, np.arange(1000), num_threads=threads)
        assert np.array_equal(again, everyone)
    np.testing.assert_allclose(
        mlcore.reference.normal(3, 1, 9, np.arange(1000)), everyone, rtol=1e-14
    )


def test_every_key_matters() -> None:
    tags = np.arange(50)
    draws = [
        mlcore.random.normal(seed, stream, step, tags)
        for seed, stream, step in itertools.product((0, 1, 2**32), (0, 1), (0, 1, 2**32))
    ]
    for a, b in itertools.combinations(draws, 2):
        assert not np.intersect1d(a, b).size


def test_distribution() -> None:
    """Sized for a false alarm of 1e-6; a wrong factor of two in the variance is caught."""
    draws = mlcore.random.normal(42, 0, 0, np.arange(100_000))
    for component in draws.T:
        assert stats.kstest(component, "norm").pvalue > FALSE_ALARM
        for scale in (2**0.5, 0.5**0.5):
            assert stats.kstest(scale * component, "norm").pvalue < FALSE_ALARM


def test_no_correlation_between_components_tags_steps_and_streams() -> None:
    count = 200_000
    tags = np.arange(count)
    base = mlcore.random.normal(1, 0, 0, tags)
    columns = np.hstack(
        [
            base,
            np.roll(base, 1, axis=0),
            mlcore.random.normal(1, 0, 1, tags),
            mlcore.random.normal(1, 1, 0, tags),
            mlcore.random.normal(2, 0, 0, tags),
        ]
    )
    for power in (1, 2):
        matrix = np.corrcoef((columns**power).T) - np.eye(columns.shape[1])
        assert np.abs(matrix).max() * math.sqrt(count) < 5.6  # 1e-6 over all 210 elements


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, 0, 0, [0]), "seed"),
        ((2**64, 0, 0, [0]), "seed"),
        ((0, -1, 0, [0]), "stream"),
        ((0, 2**30, 0, [0]), "stream"),
        ((0, 0, -1, [0]), "step"),
        ((0, 0, 2**64, [0]), "step"),
        ((0, 0, 0, [-1]), "tags"),
        ((0, 0, 0, [2**32]), "tags"),
        ((0, 0, 0, [0.5]), "tags"),
        ((0, 0, 0, [[1, 2]]), "tags"),
    ],
)
def test_range_errors_name_the_argument(arguments: tuple[object, ...], name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name} must"):
        mlcore.random.normal(*arguments)


def test_no_particles() -> None:
    assert mlcore.random.normal(0, 0, 0, []).shape == (0, 3)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_same_numbers_into_arrays_of_the_caller(device: str) -> None:
    there = device_named(device)
    tags = np.concatenate([np.arange(300), [2**32 - 1]])
    out = there.put(np.zeros((301, 3)))
    filled = mlcore.random.normal(2**63 + 5, 77, 2**40 + 3, tags, out=out)
    assert filled is out
    want = mlcore.reference.normal(2**63 + 5, 77, 2**40 + 3, tags)
    np.testing.assert_allclose(there.get(out), want, rtol=1e-13, atol=1e-13)
    with pytest.raises(InvalidArgument, match="out must have the shape"):
        mlcore.random.normal(0, 0, 0, tags[1:], out=out)
