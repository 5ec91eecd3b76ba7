"""Batches of lightly augmented training cases, for short fits outside Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from synthrad.cases import Case, collate
from synthrad.data.transforms import light


def light_batches(case_of: Callable[[int], Case], rows: np.ndarray, batch_size: int, rng: np.random.Generator) -> Iterator[Case]:
    """Batches without end; every row comes once before any comes again.

    Args:
        case_of: row -> its case. rows: the rows drawn from, int [n], n >= 1. rng: of order and augmentation.
    """
    queue: list[int] = []
    while True:
        while len(queue) < batch_size:
            queue += rng.permutation(rows).tolist()
        taken, queue = queue[:batch_size], queue[batch_size:]
        yield collate([light(case_of(i), rng) for i in taken])
