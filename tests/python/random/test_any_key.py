"""mlcore.random for any seed, stream, step, set of tags and layout of the array that holds them."""

from __future__ import annotations

import mlcore
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

KEYS = {
    "seed": st.integers(0, 2**64 - 1),
    "stream": st.integers(0, 2**30 - 1),
    "step": st.integers(0, 2**64 - 1),
}
TAGS = arrays.arrays(np.uint32, st.integers(0, 70))


@settings(max_examples=200, deadline=None)
@given(tags=TAGS, threads=st.sampled_from([1, 2, 7]), **KEYS)
def test_equals_the_reference(
    seed: int, stream: int, step: int, tags: np.ndarray, threads: int
) -> None:
    found = mlcore.random.normal(seed, stream, step, tags, num_threads=threads)
    assert found.shape == (len(tags), 3) and np.isfinite(found).all()
    expected = mlcore.reference.normal(seed, stream, step, tags)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)


@settings(max_examples=50, deadline=None)
@given(tags=TAGS, order=st.randoms(), **KEYS)
def test_numbers_belong_to_tags_not_places(
    seed: int, stream: int, step: int, tags: np.ndarray, order
) -> None:
    places = list(range(len(tags)))
    order.shuffle(places)
    found = mlcore.random.normal(seed, stream, step, tags)
    moved = mlcore.random.normal(seed, stream, step, tags[places].astype(np.int64))
    np.testing.assert_array_equal(found[places], moved)


@settings(max_examples=50, deadline=None)
@given(tags=TAGS, gap=st.integers(2, 4), **KEYS)
def test_layout_does_not_matter(
    seed: int, stream: int, step: int, tags: np.ndarray, gap: int
) -> None:
    room = np.zeros((len(tags), gap), dtype=np.uint32)
    room[:, 0] = tags
    found = mlcore.random.normal(seed, stream, step, room[:, 0])
    np.testing.assert_array_equal(found, mlcore.random.normal(seed, stream, step, tags))
