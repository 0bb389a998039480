"""The exact ranks of a few gallery images per query, without sorting the gallery's indices.

The rank of an image is one plus the number of images that come before it: those at a smaller
distance, and those at the same distance that stand earlier in the gallery. This is its place in a
stable argsort of the row of distances.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.metrics.checks import IntegerArray
from reid_edge.metrics.matches import Pairs

FloatRow = npt.NDArray[np.float32]

# Above this many ties in one row, one stable sort of that row is cheaper than counting for each.
_COUNTED_TIES = 64
# Counting holds the gathered rows, two comparisons and two combinations of them: 4 + 4 x 1 bytes.
_COUNTING_BYTES = 8


def ranks_of(distances: Tensor, pairs: Pairs, working_bytes: int) -> IntegerArray:
    """Rank the given images, each among all images of its query's row.

    Args:
        distances: float32, shape (block, gallery), without NaN; junk is infinite.
        pairs: the images to rank; their distances are finite.
        working_bytes: how much memory to work with on an accelerator (at least one row is used).

    Returns:
        Ranks from 1, shape (pairs,).
    """
    if distances.device.type == "cpu":
        return ranks_by_sorted_values(distances.numpy(), pairs)
    return ranks_by_counting(distances, pairs, working_bytes)


def ranks_by_sorted_values(distances: npt.NDArray[np.float32], pairs: Pairs) -> IntegerArray:
    """Rank by sorting each row's values alone and looking the few images up in them.

    Arguments and result are those of `ranks_of`. NumPy sorts plain float32 values with vector
    instructions, 15 times as fast as it or PyTorch sorts values along with their indices.
    """
    block, gallery = distances.shape
    bounds = np.searchsorted(pairs.rows, np.arange(block + 1))
    ranks = np.empty(len(pairs), dtype=np.int64)
    # The last place stays NaN, so that "equal to the next value" can be asked of every value.
    scratch = np.full(gallery + 1, np.nan, dtype=np.float32)
    for row in np.flatnonzero(np.diff(bounds)):
        part = slice(bounds[row], bounds[row + 1])
        ranks[part] = _ranks_in_row(distances[row], pairs.columns[part], scratch)
    return ranks


def _ranks_in_row(row: FloatRow, columns: IntegerArray, scratch: FloatRow) -> IntegerArray:
    values = scratch[:-1]
    values[:] = row
    values.sort()
    wanted = row[columns]
    smaller: IntegerArray = np.searchsorted(values, wanted)
    tied = np.flatnonzero(scratch[smaller + 1] == wanted)
    if len(tied) > _COUNTED_TIES:
        return _ranks_by_stable_sort(row, columns)
    for index in tied:
        smaller[index] += np.count_nonzero(row[: columns[index]] == wanted[index])
    return smaller + 1


def _ranks_by_stable_sort(row: FloatRow, columns: IntegerArray) -> IntegerArray:
    ranks = np.empty(len(row), dtype=np.int64)
    ranks[np.argsort(row, kind="stable")] = np.arange(1, len(row) + 1)
    return ranks[columns]


def ranks_by_counting(distances: Tensor, pairs: Pairs, working_bytes: int) -> IntegerArray:
    """Rank by comparing each image's distance with its whole row, on the distances' device.

    Arguments and result are those of `ranks_of`. An accelerator compares faster than it sorts.
    """
    gallery = distances.shape[1]
    places = torch.arange(gallery, device=distances.device)
    rows = torch.from_numpy(pairs.rows).to(distances.device)
    columns = torch.from_numpy(pairs.columns).to(distances.device)
    wanted = distances[rows, columns]
    at_a_time = max(1, working_bytes // (_COUNTING_BYTES * gallery))
    counts = [
        _count_before(distances[r], d[:, None], places < c[:, None])
        for r, c, d in zip(
            *(torch.split(each, at_a_time) for each in (rows, columns, wanted)), strict=True
        )
    ]
    ranks: IntegerArray = (torch.cat(counts) + 1).cpu().numpy()
    return ranks


def _count_before(rows: Tensor, wanted: Tensor, earlier: Tensor) -> Tensor:
    return ((rows < wanted) | ((rows == wanted) & earlier)).sum(1)
