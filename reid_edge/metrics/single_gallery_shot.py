"""CUHK03's classic protocol: cumulative matching against one gallery image per identity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.metrics.checks import IntegerArray
from reid_edge.metrics.matches import GalleryIndex, Pairs

REPEATS = 100


class GalleryDraws:
    """One hundred galleries of one random image per identity, the same for every query.

    As in the protocol (Li et al., "DeepReID", CVPR 2014, and torchreid's ``eval_cuhk03``), except
    that torchreid draws 10 galleries anew for each query. Drawn once, a query's result does not
    depend on which queries stand beside it. Only for the query's own identity is the drawn
    image another one for each query, since junk must not be drawn: the same random number picks
    among the query's matches.
    """

    def __init__(self, index: GalleryIndex, seed: int) -> None:
        """Draw the galleries.

        Args:
            index: the gallery, grouped by identity.
            seed: of the random numbers.
        """
        self.identities, first, counts = index.identities()
        shape = (REPEATS, len(self.identities))
        self._fractions = np.random.default_rng(seed).random(shape)
        self._images: IntegerArray = index.order[first + _pick(self._fractions, counts)]

    def cumulative_matching(
        self, distances: Tensor, query_ids: IntegerArray, matches: Pairs, ranks: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """How often a match is among the first, by query and rank.

        Args:
            distances: float32, shape (block, gallery).
            query_ids: shape (block,).
            matches: the queries' matches; queries without one are left out.
            ranks: at which ranks to look.

        Returns:
            Shares of the repeats, shape (queries with a match, ranks).
        """
        rows, first, counts = matches.groups()
        own = np.searchsorted(self.identities, query_ids[rows])
        distances = distances[torch.from_numpy(rows).to(distances.device)]
        found = np.zeros((len(rows), len(ranks)))
        for fractions, images in zip(self._fractions, self._images, strict=True):
            drawn = matches.columns[first + _pick(fractions[own], counts)]
            places = _ranks_among(distances, images, own, drawn)
            found += places[:, None] <= np.asarray(ranks)
        return found / REPEATS


def _pick(fractions: npt.NDArray[np.float64], counts: IntegerArray) -> IntegerArray:
    """Turn fractions of [0, 1) into numbers below the counts."""
    picked: IntegerArray = (fractions * counts).astype(np.int64)
    # The product of a fraction just below one and a large count can round up to the count.
    return np.minimum(picked, counts - 1)


def _ranks_among(
    distances: Tensor, images: IntegerArray, own: IntegerArray, drawn: IntegerArray
) -> IntegerArray:
    """Rank each query's drawn match among the drawn images of the other identities.

    Args:
        distances: shape (block, gallery).
        images: one of each identity, shape (identities,).
        own: the place of the query's identity among them, shape (block,).
        drawn: the match drawn for each query, shape (block,).
    """
    device = distances.device
    block = torch.arange(len(distances), device=device)
    others = torch.from_numpy(images).to(device)
    match = torch.from_numpy(drawn).to(device)[:, None]
    values, wanted = distances[:, others], distances.gather(1, match)
    before = (values < wanted) | ((values == wanted) & (others < match))
    before[block, torch.from_numpy(own).to(device)] = False
    ranks: IntegerArray = (before.sum(1) + 1).cpu().numpy()
    return ranks
