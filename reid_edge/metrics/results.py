"""The results of an evaluation, as they are in memory and in ``metrics.json``.

Nothing here needs PyTorch. ``metrics.json`` of a stage and of ``reid-edge evaluate`` are both an
`Evaluation`.
"""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reid_edge.core.errors import DataError

Distance = Literal["cosine", "euclidean"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)

SCHEMA_VERSION = 1


class Result(BaseModel):
    """A part of a result: it cannot be changed, and unknown keys are refused."""

    # Built when they are first used, because every command imports them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them; ranks become strings, as keys in JSON are."""
        return self.model_dump(mode="json")


class RankingResult(Result):
    """How well queries find their identity in a gallery; every share is between 0 and 1.

    Attributes:
        mean_average_precision: mAP, the mean over queries of the mean precision at each match.
        mean_inverse_negative_penalty: mINP, the mean of matches / rank of the last match.
        cumulative_matching: CMC, the share of queries with a match at or before each rank.
        queries: number of queries that were measured.
        queries_without_match: number of queries that have no match in the gallery; they do not
            count.
        distance: distance that the gallery was ranked by.
        protocol: protocol, see :func:`reid_edge.metrics.evaluate_ranking`.
    """

    mean_average_precision: float
    mean_inverse_negative_penalty: float
    cumulative_matching: dict[int, float]
    queries: int
    queries_without_match: int
    distance: str
    protocol: str = "market1501"


class OperatingPoint(Result):
    """What is accepted when false accepts are bounded; every rate is between 0 and 1.

    Attributes:
        target: the bound on the false accept rate.
        true_accept_rate: the share of genuine pairs accepted, or None if the target is refused.
        false_accept_rate: the share of impostor pairs accepted, at most the target, or None.
        threshold: the lowest score that is accepted, or None if there is none.
        reason: why there is no threshold, else None.
    """

    target: float
    true_accept_rate: float | None
    false_accept_rate: float | None
    threshold: float | None
    reason: str | None = None


class VerificationResult(Result):
    """How well scores separate genuine pairs from impostor pairs.

    Attributes:
        equal_error_rate: the mean of both error rates where they are closest, between 0 and 1.
        equal_error_threshold: the threshold there.
        operating_points: one for each target, in the order of the targets.
        genuine_pairs: number of scored pairs of one identity.
        impostor_pairs: number of scored pairs of two identities.
    """

    equal_error_rate: float
    equal_error_threshold: float
    operating_points: tuple[OperatingPoint, ...]
    genuine_pairs: int
    impostor_pairs: int


class PairCounts(Result):
    """The pairs of test images that verification is measured on.

    Attributes:
        which: the pairs in words, for a table.
        genuine: number of pairs of one identity; all of them are scored.
        impostor: number of pairs of two identities.
        sampled: whether only a sample of the impostor pairs was scored.
    """

    which: str
    genuine: int
    impostor: int
    sampled: bool = False

    @property
    def missing(self) -> Literal["genuine", "impostor"] | None:
        """The kind of pairs that there are none of; None if there are pairs of both kinds."""
        if not self.genuine:
            return "genuine"
        return None if self.impostor else "impostor"


class TrackResult(Result):
    """How well the first half of a track finds its second half among those of all tracks.

    Two tracks may be of one person, and count as different here, for the teacher too.

    Attributes:
        tracks: number of tracks of two images or more.
        mean_average_precision: mAP of the student, between 0 and 1.
        rank1: share of the queries whose nearest image is of their track.
        teacher_mean_average_precision: mAP of the teacher.
        teacher_rank1: the same share of the teacher.
        pairs_seen_at_once: number of pairs of tracks that are of two people for sure.
    """

    tracks: int
    mean_average_precision: float
    rank1: float
    teacher_mean_average_precision: float
    teacher_rank1: float
    pairs_seen_at_once: int


class LabelFreeResult(Result):
    """How like its teacher a model orders images, by cosine similarity; no identity is known.

    With tracks, an image is compared with those of other tracks alone.

    Attributes:
        images: number of images.
        mean_cosine: mean cosine of an image's embedding to the teacher's; None if their sizes
            differ.
        lowest_cosine: the lowest one, or None.
        same_nearest: share of the images whose nearest image is that of the teacher.
        nearest_overlap: share of the teacher's ten nearest images that are among the own ten, the
            mean.
        rank_correlation: Spearman's correlation of an image's similarities to the others, the mean.
        spread: variance of the embeddings at unit length, summed over the dimensions; 0 if all are
            the same.
        teacher_spread: the same of the teacher's.
        tracks: how well a track finds its other half; None without tracks.
    """

    images: int
    mean_cosine: float | None
    lowest_cosine: float | None
    same_nearest: float
    nearest_overlap: float
    rank_correlation: float
    spread: float
    teacher_spread: float
    tracks: TrackResult | None = None


class EvaluatedModel(Result):
    """The model file that was evaluated, and how images were brought to it.

    Attributes:
        file: path of the model file.
        description: architecture and kind of file, in words.
        file_hash: SHA-256 of the file, see :class:`reid_edge.inference.embedder.EmbeddingSpace`.
        input_size: (height, width) in pixels.
        flip_averaging: whether embeddings are averaged over each image and its mirror image.
        architecture: name, or empty if the file does not say.
        mean: mean of each colour, for colours in [0, 1].
        std: standard deviation of each colour.
        colour_order: "RGB" or "BGR".
        weights_key: which weights were taken of a checkpoint with several, or empty.
        input_form: "float" for normalised images, or "uint8-rgb" or "uint8-bgr" for pixels.
    """

    file: str
    description: str
    file_hash: str
    input_size: tuple[int, int]
    flip_averaging: bool
    architecture: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    colour_order: str
    weights_key: str = ""
    input_form: str = "float"


class EvaluatedData(Result):
    """The data set that was evaluated on.

    Attributes:
        root: folder of the data set.
        format: name of its reader, in ``reid_edge.data.readers.READERS``.
        prepared_from: the data set that ``reid-edge prepare`` made the folder from, or None.
        split: number of the split if the data set has several, or None.
    """

    root: str
    format: str
    prepared_from: str | None = None
    split: int | None = None


class Evaluation(Result):
    """How well a model ranks and verifies on the query and gallery images of a data set.

    Attributes:
        schema_version: version of this layout.
        ranking: ranking of the gallery, by distance ("cosine", "euclidean"); empty without
            identities.
        re_ranked: the same after k-reciprocal re-ranking; empty if it was not measured.
        verification: verification by cosine similarity; None if `pairs` has none of one kind.
        pairs: the pairs that verification is measured on.
        has_cameras: whether the data set has camera numbers.
        query_images: number of queries.
        gallery_images: number of gallery images.
        model: the evaluated file; None in a stage, which evaluates a model in memory.
        data: the data set; None in a stage, whose data set is in the run's configuration.
        label_free: what is measured of images without identities; None with them.
    """

    schema_version: Literal[1] = 1
    ranking: dict[Distance, RankingResult]
    re_ranked: dict[Distance, RankingResult] = Field(default_factory=dict)
    verification: VerificationResult | None
    pairs: PairCounts
    has_cameras: bool
    query_images: int
    gallery_images: int
    model: EvaluatedModel | None = None
    data: EvaluatedData | None = None
    label_free: LabelFreeResult | None = None

    def to_json(self) -> str:
        """Return the result as the text of a ``metrics.json``; `from_json` reads it."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "metrics") -> Self:
        """Read what `to_json` returned.

        Args:
            text: of the file.
            where: the message of an error begins with it, such as the path of the file.

        Raises:
            DataError: the text is not JSON, or is not of this layout and version.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DataError(
                f"{where}: not the result of an evaluation, schema version {SCHEMA_VERSION} "
                f"({place + ': ' if place else ''}{first['msg']}); evaluate again"
            ) from error
