"""The matches of each query in the gallery, and their exact ranks.

The rank of a gallery image is one plus the number of images before it: those at a smaller
distance, and those at the same distance that stand earlier in the gallery. This is its place in a
stable argsort of the row of distances. Only the ranks of the matches are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.metrics.distances import IntegerArray

# Counting holds the gathered rows, two comparisons and two combinations of them: 4 + 4 x 1 bytes.
_COUNTING_BYTES = 8
# Above this many ties in one row, one stable sort of a long row is cheaper than a count for each.
_COUNTED_TIES = 64
# The calls that count for one image take as long as the sort of this many values, and a comparison
# is this many times as fast as the sort of a value (NumPy 2 with AVX-512 on an AMD EPYC).
_COUNTING_CALLS = 160
_COUNTING_SPEED = 100


@dataclass(frozen=True)
class Pairs:
    """Some entries of a block of distances, by row and then by column.

    Attributes:
        rows: the query's position in the block, shape (pairs,), ascending.
        columns: the gallery image, shape (pairs,), ascending within a row.
    """

    rows: IntegerArray
    columns: IntegerArray

    def __len__(self) -> int:
        return len(self.rows)

    def groups(self) -> tuple[IntegerArray, IntegerArray, IntegerArray]:
        """Return the rows that have pairs, where each one's pairs begin, and their number."""
        return _runs(self.rows)


@dataclass(frozen=True)
class GalleryIndex:
    """A gallery's images grouped by identity.

    Attributes:
        order: gallery images sorted by identity, those of one identity in gallery order.
        sorted_ids: their identities.
        cameras: the gallery's cameras, in gallery order.
    """

    order: IntegerArray
    sorted_ids: IntegerArray
    cameras: IntegerArray

    @classmethod
    def build(cls, ids: IntegerArray, cameras: IntegerArray) -> GalleryIndex:
        """Group a gallery by its identities and cameras, each of shape (gallery,)."""
        order = np.argsort(ids, kind="stable")
        return cls(order, ids[order], cameras)

    def __len__(self) -> int:
        return len(self.order)

    def identities(self) -> tuple[IntegerArray, IntegerArray, IntegerArray]:
        """Return the identities, where each one begins in `order`, and its number of images."""
        return _runs(self.sorted_ids)

    def matches_and_junk(
        self, query_ids: IntegerArray, query_cameras: IntegerArray
    ) -> tuple[Pairs, Pairs]:
        """Split the pairs of one identity by the Market-1501 protocol.

        Args:
            query_ids: identities of a block of queries, shape (block,).
            query_cameras: their cameras, shape (block,).

        Returns:
            The matches, seen by another camera than the query, and the junk, seen by the same.
        """
        first = np.searchsorted(self.sorted_ids, query_ids, side="left")
        counts = np.searchsorted(self.sorted_ids, query_ids, side="right") - first
        rows = np.repeat(np.arange(len(query_ids)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        columns = self.order[np.repeat(first, counts) + within]
        junk = self.cameras[columns] == query_cameras[rows]
        return Pairs(rows[~junk], columns[~junk]), Pairs(rows[junk], columns[junk])


def _runs(ascending: IntegerArray) -> tuple[IntegerArray, IntegerArray, IntegerArray]:
    """Return the distinct values, where each one begins, and how often it occurs."""
    values, first, counts = np.unique(ascending, return_index=True, return_counts=True)
    return values, first.astype(np.int64), counts.astype(np.int64)


def ranks_of(distances: Tensor, pairs: Pairs, working_bytes: int) -> IntegerArray:
    """Rank the given images, each among all images of its query's row.

    Args:
        distances: float32, shape (block, gallery), without NaN; junk is infinite.
        pairs: the images to rank; their distances are finite.
        working_bytes: memory to work with on an accelerator; at least one row is used.

    Returns:
        Ranks from 1, shape (pairs,).
    """
    if distances.device.type == "cpu":
        return ranks_row_by_row(distances.numpy(), pairs)
    return ranks_by_counting(distances, pairs, working_bytes)


def ranks_row_by_row(distances: npt.NDArray[np.float32], pairs: Pairs) -> IntegerArray:
    """Rank the images of one row after the other, each row in the way that is faster for it.

    Arguments and result are those of `ranks_of`.
    """
    block, gallery = distances.shape
    bounds = np.searchsorted(pairs.rows, np.arange(block + 1))
    ranks = np.empty(len(pairs), dtype=np.int64)
    # A count costs time for each image, a sort for the row.
    counted = gallery / (_COUNTING_CALLS + gallery / _COUNTING_SPEED)
    for row in np.flatnonzero(np.diff(bounds)):
        part = slice(bounds[row], bounds[row + 1])
        line, columns = distances[row], pairs.columns[part]
        few = len(columns) <= counted
        ranks[part] = _counted_ranks(line, columns) if few else _sorted_ranks(line, columns)
    return ranks


def _counted_ranks(line: npt.NDArray[np.float32], columns: IntegerArray) -> IntegerArray:
    """Rank the images at some columns of a row by comparing each distance with the whole row."""
    nearer = np.empty(len(line), dtype=np.bool_)
    ranks = np.empty(len(columns), dtype=np.int64)
    for place, column in enumerate(columns):
        wanted = line[column]
        np.less_equal(line[:column], wanted, out=nearer[:column])  # equal and earlier: before it
        np.less(line[column:], wanted, out=nearer[column:])
        ranks[place] = np.count_nonzero(nearer) + 1
    return ranks


def _sorted_ranks(line: npt.NDArray[np.float32], columns: IntegerArray) -> IntegerArray:
    """Rank the images at some columns of a row by sorting its values and searching theirs.

    NumPy sorts plain float32 values with vector instructions, 15 times as fast as it or PyTorch
    sorts values along with their indices.
    """
    # The last place stays NaN, so that every value has a next one to compare with.
    values = np.append(line, np.float32(np.nan))
    values[:-1].sort()
    wanted = line[columns]
    before = np.searchsorted(values[:-1], wanted)
    tied = np.flatnonzero(values[before + 1] == wanted)
    if len(tied) > _COUNTED_TIES:
        places = np.empty(len(line), dtype=np.int64)
        places[np.argsort(line, kind="stable")] = np.arange(len(line))
        before = places[columns]
    elif len(tied):
        before[tied] = _counted_ranks(line, columns[tied]) - 1
    ranks: IntegerArray = before + 1
    return ranks


def ranks_by_counting(distances: Tensor, pairs: Pairs, working_bytes: int) -> IntegerArray:
    """Rank by comparing each image's distance with its whole row, on the distances' device.

    Arguments and result are those of `ranks_of`. An accelerator compares faster than it sorts.
    """
    gallery = distances.shape[1]
    places = torch.arange(gallery, device=distances.device)
    rows = torch.from_numpy(pairs.rows).to(distances.device)
    columns = torch.from_numpy(pairs.columns).to(distances.device)
    at_a_time = max(1, working_bytes // (_COUNTING_BYTES * gallery))
    counts = []
    for some_rows, some_columns in zip(
        torch.split(rows, at_a_time), torch.split(columns, at_a_time), strict=True
    ):
        lines = distances[some_rows]
        wanted = distances[some_rows, some_columns][:, None]
        earlier = places < some_columns[:, None]
        counts.append(((lines < wanted) | ((lines == wanted) & earlier)).sum(1))
    ranks: IntegerArray = (torch.cat(counts) + 1).cpu().numpy()
    return ranks
