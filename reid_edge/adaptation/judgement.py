"""Whether an adapted model is better than the one before, on images set apart, without labels.

A figure that a model's own training can raise says nothing: clusters get tighter whether they are
of persons or not. So the images are others than those that were learned from, the adapted model's
neighbours are looked at with the eyes of the model before, and figures that only a spoiled model
loses are limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_edge.adaptation.site import NO_TRACK, Site
from reid_edge.metrics.distances import unit_length
from reid_edge.metrics.ranking import evaluate_ranking

NEAREST = 8
NEIGHBOURS = 5
# What the adapted model has to gain. Spoiled models, that learned from clusters of chance or from
# one camera, gain less in one of the two (docs/results/adaptation.md).
LEAST_CONTRAST, SIGNIFICANT = 0.035, 2.0
LEAST_STABILITY = 0.004
# What it may lose.
LEAST_SPREAD = 0.5
LARGEST_VIEW_LOSS = 0.05
LARGEST_TRACK_LOSS = 0.005
LEAST_PLAUSIBLE = 0.25
# Tracks of two images or more that are enough to look at.
FEWEST_TRACKS = 8

CONTRAST = "how far the eight nearest images stand out from all others, in standard deviations"
STABILITY = "share of the five nearest images that stay when light and crop change"
TRACKS = "mAP of the second half of a track, searched by the first"
SPREAD = "number of directions that the embeddings use"
VIEWS = "share of changed copies that find their image"
PLAUSIBLE = "how near the new nearest images are in the eyes of the model before"


@dataclass(frozen=True)
class Figure:
    """A figure of images set apart.

    Attributes:
        name: what it says, in words.
        before: of the model before.
        after: of the adapted model.
        decides: whether it has to be better; otherwise it must not be much worse.
    """

    name: str
    before: float
    after: float
    decides: bool = False


@dataclass(frozen=True)
class Judgement:
    """The outcome of a comparison.

    Attributes:
        better: whether the adapted model is kept.
        reason: why, in one line.
        figures: what was compared.
    """

    better: bool
    reason: str
    figures: tuple[Figure, ...]


def judge(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], site: Site) -> Judgement:
    """Compare two models by their embeddings of the same images.

    Args:
        before: of the model before: embeddings (N, D) of the images, and of copies of them in
            another light and crop.
        after: the same of the adapted model.
        site: cameras and tracks of the images.
    """
    old, new = before[0], after[0]
    comparable = other_images(site, len(old))
    old_scores, new_scores = (standard_scores(one, comparable) for one in (old, new))
    count = min(NEAREST, int(comparable.sum(1).min()))
    old_near, new_near = (scores.topk(count, dim=1) for scores in (old_scores, new_scores))
    contrast = Figure(
        CONTRAST, float(old_near.values.mean()), float(new_near.values.mean()), decides=True
    )
    stability = Figure(STABILITY, stable_share(*before), stable_share(*after), decides=True)
    # With the least value that the adapted model has to have.
    limits = [
        (Figure(SPREAD, directions(old), directions(new)), LEAST_SPREAD * directions(old)),
        (
            Figure(VIEWS, found_again(*before), found_again(*after)),
            found_again(*before) - LARGEST_VIEW_LOSS,
        ),
        (
            Figure(
                PLAUSIBLE,
                1.0,
                float(old_scores.gather(1, new_near.indices).mean()) / max(contrast.before, 1e-6),
            ),
            LEAST_PLAUSIBLE,
        ),
    ]
    halves = track_halves(site, len(old))
    if halves.count >= FEWEST_TRACKS:
        figure = Figure(TRACKS, find_halves(old, halves), find_halves(new, halves))
        limits.append((figure, figure.before - LARGEST_TRACK_LOSS))
    figures = (contrast, stability, *(figure for figure, _ in limits))
    for figure, least in limits:
        if not figure.after >= least:
            return Judgement(
                False,
                f"the adaptation has spoiled the model: {figure.name}, {figure.before:.3f} before, "
                f"{figure.after:.3f} after, at least {least:.3f} is asked for",
                figures,
            )
    gain = new_near.values.mean(1) - old_near.values.mean(1)
    error = float(gain.std()) / len(gain) ** 0.5
    asked = (
        (contrast, max(LEAST_CONTRAST, SIGNIFICANT * error)),
        (stability, LEAST_STABILITY),
    )
    for figure, least in asked:
        if not figure.after - figure.before >= least:
            return Judgement(
                False,
                f"not better: {figure.name}, {figure.before:.3f} before, {figure.after:.3f} after, "
                f"a gain of {least:.3f} is asked for",
                figures,
            )
    return Judgement(
        True,
        "better on images set apart: "
        + "; ".join(f"{one.name}, {one.before:.3f} before, {one.after:.3f} after"
                    for one in (contrast, stability)),
        figures,
    )  # fmt: skip


def other_images(site: Site, count: int) -> Tensor:
    """Return which pairs of images are compared, bool (count, count).

    They are those of different cameras, where cameras are known, because a model may know an image
    by its camera; else those of different tracks; else all pairs.
    """
    if site.cameras is not None and len(np.unique(site.cameras)) > 1:
        cameras = torch.from_numpy(site.cameras)
        return cameras[:, None] != cameras[None, :]
    tracks = torch.from_numpy(site.track_of(count))
    same = (tracks[:, None] == tracks[None, :]) & (tracks[:, None] != NO_TRACK)
    return ~(same | torch.eye(count, dtype=torch.bool))


def standard_scores(embeddings: Tensor, comparable: Tensor) -> Tensor:
    """Return the cosines of each image to comparable ones, less their mean, in standard deviations.

    Args:
        embeddings: (N, D).
        comparable: bool (N, N); others get minus infinity.
    """
    unit = unit_length(embeddings.float())
    cosines = unit @ unit.T
    number, nothing = comparable.sum(1, keepdim=True), torch.zeros(())
    mean = cosines.where(comparable, nothing).sum(1, keepdim=True) / number
    squares = (cosines - mean).square().where(comparable, nothing)
    spread = (squares.sum(1, keepdim=True) / number).sqrt().clamp_min(1e-6)
    return ((cosines - mean) / spread).masked_fill(~comparable, -torch.inf)


def stable_share(plain: Tensor, changed: Tensor) -> float:
    """Return the share of an image's nearest that are among its changed copy's nearest copies."""
    nearest = []
    for embeddings in (plain, changed):
        unit = unit_length(embeddings.float())
        cosines = (unit @ unit.T).fill_diagonal_(-torch.inf)
        nearest.append(cosines.topk(min(NEIGHBOURS, len(unit) - 1), dim=1).indices)
    common = (nearest[0][:, :, None] == nearest[1][:, None, :]).any(2)
    return float(common.double().mean())


def directions(embeddings: Tensor) -> float:
    """Return the effective rank of embeddings: the exponential of their spectrum's entropy.

    Roy and Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007, of
    the variances.
    """
    unit = unit_length(embeddings.double())
    variances = torch.linalg.svdvals(unit - unit.mean(0)).square()
    shares = variances / variances.sum().clamp_min(1e-12)
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))


def found_again(plain: Tensor, changed: Tensor) -> float:
    """Return the share of changed copies whose nearest image is their own."""
    cosines = unit_length(changed.float()) @ unit_length(plain.float()).T
    return float((cosines.argmax(1) == torch.arange(len(plain))).double().mean())


@dataclass(frozen=True)
class Halves:
    """Halves of tracks of two images or more.

    Attributes:
        first: places of the images of the first halves.
        second: places of the others.
        tracks: of all images.
        count: number of tracks.
    """

    first: Tensor
    second: Tensor
    tracks: Tensor
    count: int


def track_halves(site: Site, count: int) -> Halves:
    """Halve the tracks of ``count`` images, which are in the order of time within a track."""
    tracks = site.track_of(count)
    first: list[int] = []
    second: list[int] = []
    found = 0
    for track in np.unique(tracks[tracks != NO_TRACK]):
        places = np.flatnonzero(tracks == track).tolist()
        if len(places) > 1:
            found += 1
            first += places[: len(places) // 2]
            second += places[len(places) // 2 :]
    return Halves(torch.tensor(first), torch.tensor(second), torch.from_numpy(tracks), found)


def find_halves(embeddings: Tensor, halves: Halves) -> float:
    """Return the mAP of searching the second halves of tracks by the first ones."""
    first, second, tracks = halves.first, halves.second, halves.tracks
    return evaluate_ranking(
        embeddings[first], tracks[first], torch.zeros_like(first),
        embeddings[second], tracks[second], torch.ones_like(second),
    ).mean_average_precision  # fmt: skip
