import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_edge.core.errors import DataError
from reid_edge.metrics import RankingResult, evaluate_ranking

RANKS = (1, 5, 10, 20)


def naive_distances(queries, gallery, distance):
    queries, gallery = queries.astype(np.float64), gallery.astype(np.float64)
    if distance == "euclidean":
        return ((queries[:, None] - gallery[None]) ** 2).sum(-1)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    return 1 - queries @ gallery.T


def naive_ranking(distances, query_ids, query_cameras, gallery_ids, gallery_cameras, ranks):
    """Return mAP, mINP, CMC by rank and the number of queries left out."""
    precisions, penalties, curves, left_out = [], [], [], 0
    for row, identity, camera in zip(distances, query_ids, query_cameras, strict=True):
        order = np.argsort(row, kind="stable")
        same = gallery_ids[order] == identity
        junk = same & (gallery_cameras[order] == camera)
        hits = same[~junk]
        if not hits.any():
            left_out += 1
            continue
        places = np.flatnonzero(hits) + 1
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
        penalties.append(len(places) / places[-1])
        curves.append([places[0] <= rank for rank in ranks])
    if not precisions:
        return None
    matching = dict(zip(ranks, np.mean(curves, axis=0), strict=True))
    return np.mean(precisions), np.mean(penalties), matching, left_out


def random_case(seed, kind="continuous", queries=12, gallery=40, identities=6, cameras=3):
    """Features and labels of a query and a gallery set, in `evaluate_ranking`'s order."""
    generator = np.random.default_rng(seed)

    def features(count):
        if kind == "signs":  # every length is 4 and every product a small integer: exact ties
            return generator.choice([-1.0, 1.0], (count, 16))
        if kind == "integers":
            return generator.integers(-1, 2, (count, 3)).astype(float)
        return generator.normal(size=(count, 16))

    return [
        torch.from_numpy(part(count))
        for count in (queries, gallery)
        for part in (
            lambda n: features(n).astype(np.float32),
            lambda n: generator.integers(0, identities, n),
            lambda n: generator.integers(0, cameras, n),
        )
    ]


def assert_equals_naive(case, distance, **options):
    arrays = [tensor.numpy() for tensor in case]
    distances = naive_distances(arrays[0], arrays[3], distance)
    expected = naive_ranking(distances, *arrays[1:3], *arrays[4:6], RANKS)
    if expected is None:
        with pytest.raises(DataError, match=r"none of the \d+ queries"):
            evaluate_ranking(*case, distance=distance, **options)
        return
    result = evaluate_ranking(*case, distance=distance, **options)
    precision, penalty, matching, left_out = expected
    assert result.mean_average_precision == pytest.approx(precision, abs=1e-12)
    assert result.mean_inverse_negative_penalty == pytest.approx(penalty, abs=1e-12)
    assert result.cumulative_matching == pytest.approx(matching, abs=1e-12)
    assert result.queries_without_match == left_out
    assert result.queries + left_out == len(case[0])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("kind", "distance"),
    [
        ("continuous", "cosine"),
        ("continuous", "euclidean"),
        ("signs", "cosine"),
        ("integers", "euclidean"),
    ],
)
def test_equals_a_stable_argsort(seed, kind, distance):
    sizes = np.random.default_rng(1000 + seed)
    case = random_case(
        seed,
        kind,
        queries=int(sizes.integers(1, 25)),
        gallery=int(sizes.choice([1, 2, 3, 7, 19, 60, 150])),
        identities=int(sizes.integers(1, 12)),
        cameras=int(sizes.integers(1, 4)),
    )
    assert_equals_naive(case, distance, block_bytes=int(sizes.choice([1, 4000, 2**26])))


def test_many_ties_in_one_row():
    case = random_case(0, "integers", queries=5, gallery=900, identities=2)
    assert_equals_naive(case, "euclidean")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_equals_a_stable_argsort_for_any_labels(data):
    queries, gallery = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))

    def labels(count, high):
        return torch.tensor(
            data.draw(st.lists(st.integers(0, high), min_size=count, max_size=count))
        )

    case = [
        part
        for count in (queries, gallery)
        for part in (labels(count, 3).float()[:, None], labels(count, 3), labels(count, 1))
    ]
    assert_equals_naive(case, "euclidean", block_bytes=data.draw(st.sampled_from([1, 500, 10**6])))


def test_an_example_by_hand():
    # Distances from the query at 0 are the gallery's coordinates. Junk at 0.5 is dropped, so the
    # matches stand at ranks 2 and 4: AP = (1/2 + 2/4) / 2, INP = 2/4.
    result = evaluate_ranking(
        torch.tensor([[0.0]]),
        torch.tensor([7]),
        torch.tensor([0]),
        torch.tensor([[4.0], [1.0], [0.5], [3.0], [2.0], [5.0]]),
        torch.tensor([7, 8, 7, 9, 7, 8]),
        torch.tensor([1, 0, 0, 1, 2, 0]),
        distance="euclidean",
        ranks=(1, 2, 3, 100),
    )
    assert result == RankingResult(
        mean_average_precision=0.5,
        mean_inverse_negative_penalty=0.5,
        cumulative_matching={1: 0.0, 2: 1.0, 3: 1.0, 100: 1.0},
        queries=1,
        queries_without_match=0,
        distance="euclidean",
    )


def test_ties_keep_the_gallerys_order():
    def first_match_at(gallery_ids):
        count = len(gallery_ids)
        result = evaluate_ranking(
            torch.ones(1, 1),
            torch.tensor([1]),
            torch.tensor([0]),
            torch.ones(count, 1),
            torch.tensor(gallery_ids),
            torch.ones(count, dtype=torch.long),
        )
        return round(1 / result.mean_average_precision)

    assert [first_match_at(ids) for ids in ([1, 2, 3], [2, 1, 3], [2, 3, 1])] == [1, 2, 3]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("protocol", ["market1501", "single_gallery_shot"])
def test_the_size_of_blocks_does_not_matter(distance, protocol):
    kind = "signs" if distance == "cosine" else "integers"
    case = random_case(3, kind, queries=30, gallery=77)
    results = [
        evaluate_ranking(*case, distance=distance, protocol=protocol, block_bytes=size)
        for size in (1, 5000, 20000, 2**26)
    ]
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("protocol", ["market1501", "single_gallery_shot"])
def test_the_order_of_queries_does_not_matter(protocol):
    case = random_case(4, "signs", queries=30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shuffled = [part[order] for part in case[:3]] + case[3:]
    assert evaluate_ranking(*case, protocol=protocol) == evaluate_ranking(
        *shuffled, protocol=protocol
    )


@pytest.mark.parametrize("factor", [2.0**-100, 0.25, 2.0**100])
def test_the_scale_of_features_does_not_matter_to_cosine(factor):
    case = random_case(5)
    scaled = [case[0] * factor, *case[1:3], case[3] * 8, *case[4:]]
    assert evaluate_ranking(*scaled) == evaluate_ranking(*case)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_collapsed_embedding_ranks_in_gallery_order(distance):
    case = random_case(6, queries=40, gallery=500)
    for part in (0, 3):
        case[part] = torch.randn(64, generator=torch.Generator().manual_seed(1)).repeat(
            len(case[part]), 1
        )
    arrays = [tensor.numpy() for tensor in case]
    expected = naive_ranking(np.zeros((40, 500)), *arrays[1:3], *arrays[4:6], RANKS)
    result = evaluate_ranking(*case, distance=distance)
    if torch.backends.mkldnn.is_available():
        assert result.mean_average_precision == pytest.approx(expected[0], abs=1e-12)
    assert result.mean_average_precision < 0.4


def test_a_query_of_zeros_is_ranked_without_fuss():
    case = random_case(7)
    case[0][0] = 0
    assert 0 < evaluate_ranking(*case).mean_average_precision < 1


def test_other_types_of_features_are_computed_in_float32():
    case = random_case(8, "signs")
    expected = evaluate_ranking(*case)
    for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int8):
        converted = [case[0].to(kind), *case[1:3], case[3].to(kind), *case[4:]]
        assert evaluate_ranking(*converted) == expected


def test_inputs_and_settings_are_left_as_they_were():
    case = random_case(9)
    case[0].requires_grad_()
    before = [part.clone() for part in case]
    expected = evaluate_ranking(*case)
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert evaluate_ranking(*case) == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(previous)
    assert all(torch.equal(a, b) for a, b in zip(case, before, strict=True))


def test_the_result_is_json():
    result = evaluate_ranking(*random_case(10))
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
    assert list(result.to_dict()["cumulative_matching"]) == ["1", "5", "10", "20"]


class TestSingleGalleryShot:
    def test_one_image_per_identity_is_the_market_protocol(self):
        case = random_case(11, gallery=40, identities=40)
        case[1], case[4] = torch.arange(12), torch.arange(40)
        case[2], case[5] = torch.zeros(12, dtype=torch.long), torch.ones(40, dtype=torch.long)
        single = evaluate_ranking(*case, protocol="single_gallery_shot")
        assert single.cumulative_matching == evaluate_ranking(*case).cumulative_matching

    def test_average_precision_is_over_the_whole_gallery(self):
        case = random_case(12)
        single = evaluate_ranking(*case, protocol="single_gallery_shot")
        assert single.mean_average_precision == evaluate_ranking(*case).mean_average_precision
        assert single.protocol == "single_gallery_shot"

    def test_repeats_with_its_seed(self):
        case = random_case(13)
        runs = [
            evaluate_ranking(*case, protocol="single_gallery_shot", seed=seed, ranks=(1, 2, 3))
            for seed in (0, 0, 1)
        ]
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]

    @pytest.mark.parametrize("kind", ["continuous", "integers"])
    def test_agrees_with_the_expectation_over_all_draws(self, kind):
        case = random_case(14, kind, gallery=60)
        shares = [
            evaluate_ranking(
                *case, protocol="single_gallery_shot", distance="euclidean", seed=s, ranks=(1,)
            ).cumulative_matching[1]
            for s in range(25)
        ]
        assert np.mean(shares) == pytest.approx(self.expected_first_rank(case), abs=0.015)

    @staticmethod
    def expected_first_rank(case):
        queries, ids, cameras, gallery, gallery_ids, gallery_cameras = (x.numpy() for x in case)
        shares = []
        for row, identity, camera in zip(
            naive_distances(queries, gallery, "euclidean"), ids, cameras, strict=True
        ):
            place = np.empty(len(row), dtype=int)
            place[np.argsort(row, kind="stable")] = np.arange(len(row))
            matches = place[(gallery_ids == identity) & (gallery_cameras != camera)]
            others = [place[gallery_ids == i] for i in set(gallery_ids) - {identity}]
            if len(matches):
                shares.append(
                    np.mean([math.prod(np.mean(o > match) for o in others) for match in matches])
                )
        return np.mean(shares)


class TestRefusals:
    def refused(self, case, **options):
        with pytest.raises(DataError) as caught:
            evaluate_ranking(*case, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_one_camera_id_for_the_whole_set(self):
        case = random_case(0, cameras=1)
        assert "one single camera id for the whole set" in self.refused(case)

    def test_identities_that_are_not_in_the_gallery(self):
        case = random_case(0)
        case[1] += 1000
        assert "none of the 12 queries' identities is in the gallery" in self.refused(case)

    @pytest.mark.parametrize(("first", "name"), [(0, "query"), (3, "gallery")])
    def test_an_empty_set(self, first, name):
        case = random_case(0)
        case[first : first + 3] = [part[:0] for part in case[first : first + 3]]
        assert f"the {name} set is empty" in self.refused(case)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_features_that_are_not_finite(self, value):
        case = random_case(0)
        case[3][[5, 9], 1] = value
        message = "2 of 40 gallery features are not finite, the first at index 5"
        assert message in self.refused(case)

    def test_features_that_overflow(self):
        case = random_case(0)
        case[0] = case[0].double() * 1e300
        assert "12 of 12 query features are not finite" in self.refused(case)
        case[0] = case[3][:12] * 1e19
        assert "overflow" in self.refused(case, distance="euclidean")

    def test_shapes_that_do_not_belong_together(self):
        case = random_case(0)
        assert "query ids have shape (5,); expected (12,)" in self.refused(
            [case[0], case[1][:5], *case[2:]]
        )
        assert "16 dimensions, gallery features have 8" in self.refused(
            [*case[:3], case[3][:, :8], *case[4:]]
        )
        assert "expected (images, dimensions)" in self.refused([case[0][0], *case[1:]])

    def test_labels_that_are_not_integers(self):
        case = random_case(0)
        assert "gallery cameras have type torch.float32" in self.refused(
            [*case[:5], case[5].float()]
        )

    def test_unknown_options(self):
        case = random_case(0)
        message = self.refused(case, distance="manhattan")
        assert "unknown distance 'manhattan'; choose one of: cosine, euclidean" in message
        assert "unknown protocol 'duke'" in self.refused(case, protocol="duke")
        assert "ranks must be numbers from 1" in self.refused(case, ranks=(0, 1))
        assert "ranks must be numbers from 1" in self.refused(case, ranks=())
