"""Which gallery images are a query's matches and which are its junk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_edge.metrics.checks import IntegerArray


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
        """Give the rows that have pairs, where each one's pairs begin, and how many there are."""
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
        """Group a gallery, given its identities and cameras, each of shape (gallery,)."""
        order = np.argsort(ids, kind="stable")
        return cls(order, ids[order], cameras)

    def __len__(self) -> int:
        return len(self.order)

    def identities(self) -> tuple[IntegerArray, IntegerArray, IntegerArray]:
        """Give the identities, where each one begins in `order`, and its number of images."""
        return _runs(self.sorted_ids)

    def same_identity(self, query_ids: IntegerArray) -> Pairs:
        """Every (query, gallery) pair of one identity."""
        first = np.searchsorted(self.sorted_ids, query_ids, side="left")
        counts = np.searchsorted(self.sorted_ids, query_ids, side="right") - first
        rows = np.repeat(np.arange(len(query_ids)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Pairs(rows, self.order[np.repeat(first, counts) + within])

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
        pairs = self.same_identity(query_ids)
        junk = self.cameras[pairs.columns] == query_cameras[pairs.rows]
        return (
            Pairs(pairs.rows[~junk], pairs.columns[~junk]),
            Pairs(pairs.rows[junk], pairs.columns[junk]),
        )


def _runs(ascending: IntegerArray) -> tuple[IntegerArray, IntegerArray, IntegerArray]:
    values, first, counts = np.unique(ascending, return_index=True, return_counts=True)
    return values, first.astype(np.int64), counts.astype(np.int64)
