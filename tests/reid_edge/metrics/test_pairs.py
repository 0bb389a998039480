import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from reid_edge.core.errors import DataError
from reid_edge.metrics import evaluate_verification, pair_scores, pair_scores_within
from reid_edge.metrics.pairs import _draw


def random_sets(seed=0, queries=20, gallery=90, identities=7):
    """Query and gallery features and ids, then query and gallery cameras."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(identities, 8, generator=generator)
    sets, cameras = [], []
    for count in (queries, gallery):
        ids = torch.randint(0, identities, (count,), generator=generator)
        sets += [centres[ids] + torch.randn(count, 8, generator=generator), ids]
        cameras.append(torch.randint(0, 3, (count,), generator=generator))
    return sets, cameras


def plain_scores(sets):
    queries, _, gallery, _ = sets
    return torch.cosine_similarity(queries[:, None], gallery[None], dim=-1)


@pytest.mark.parametrize("block_bytes", [1, 5000, 2**26])
def test_scores_all_pairs(block_bytes):
    sets, _ = random_sets()
    pairs = pair_scores(*sets, block_bytes=block_bytes)
    scores, same = plain_scores(sets), sets[1][:, None] == sets[3]
    torch.testing.assert_close(pairs.genuine, scores[same])
    torch.testing.assert_close(pairs.impostor, scores[~same])
    assert pairs.impostor_pairs == int((~same).sum())
    assert not pairs.sampled


@pytest.mark.parametrize("block_bytes", [1, 5000, 2**26])
def test_genuine_pairs_of_one_camera_are_left_out_if_cameras_are_given(block_bytes):
    sets, cameras = random_sets()
    pairs = pair_scores(
        *sets, query_cameras=cameras[0], gallery_cameras=cameras[1], block_bytes=block_bytes
    )
    queries, query_ids, gallery, gallery_ids = sets
    genuine, impostor = [], []
    for i, j in itertools.product(range(len(queries)), range(len(gallery))):
        score = torch.cosine_similarity(queries[i], gallery[j], dim=0)
        if query_ids[i] != gallery_ids[j]:
            impostor.append(score)
        elif cameras[0][i] != cameras[1][j]:
            genuine.append(score)
    torch.testing.assert_close(pairs.genuine, torch.stack(genuine))
    torch.testing.assert_close(pairs.impostor, torch.stack(impostor))
    assert pairs.impostor_pairs == len(impostor)


def test_a_threshold_bounds_false_accepts_on_the_same_camera_too():
    sets, cameras = random_sets(queries=60)
    same = sets[1][:, None] == sets[3]
    one_camera = cameras[0][:, None] == cameras[1]
    # Strangers who share a camera are more alike: its light and background are in the features.
    for features, of in ((sets[0], cameras[0]), (sets[2], cameras[1])):
        features += 3 * torch.eye(8)[of]
    scores = plain_scores(sets)
    pairs = pair_scores(*sets, query_cameras=cameras[0], gallery_cameras=cameras[1])
    result = evaluate_verification(pairs.scores, pairs.same, targets=(0.05,))
    kept = ~(same & one_camera)
    accepts, trues, thresholds = roc_curve(same[kept], scores[kept], drop_intermediate=False)
    at = np.flatnonzero(accepts <= 0.05)[-1]
    point = result.operating_points[0]
    assert point.threshold == pytest.approx(thresholds[at], abs=1e-6)
    assert point.true_accept_rate == pytest.approx(trues[at])
    assert (scores[~same] >= point.threshold - 1e-6).double().mean() <= 0.05
    # What the pairs of two cameras alone would give lets in more strangers than it promises.
    across = evaluate_verification(scores[~one_camera], same[~one_camera], targets=(0.05,))
    optimistic = across.operating_points[0].threshold
    assert (scores[~same] >= optimistic).double().mean() > 0.06


def test_pairs_are_ready_for_verification():
    sets, _ = random_sets()
    pairs = pair_scores(*sets)
    result = evaluate_verification(pairs.scores, pairs.same)
    assert result.genuine_pairs == len(pairs.genuine)
    assert result.impostor_pairs == pairs.impostor_pairs
    assert 0 < result.equal_error_rate < 0.5


class TestWithinOneSet:
    @pytest.mark.parametrize("block_bytes", [1, 5000, 2**26])
    def test_scores_each_pair_once(self, block_bytes):
        (_, _, features, ids), _ = random_sets()
        pairs = pair_scores_within(features, ids, block_bytes=block_bytes)
        genuine, impostor = [], []
        for i in range(90):
            for j in range(i + 1, 90):
                score = torch.cosine_similarity(features[i], features[j], dim=0)
                (genuine if ids[i] == ids[j] else impostor).append(score)
        torch.testing.assert_close(pairs.genuine, torch.stack(genuine))
        torch.testing.assert_close(pairs.impostor, torch.stack(impostor))
        assert pairs.impostor_pairs == len(impostor)
        assert len(genuine) + len(impostor) == 90 * 89 // 2

    def test_samples_impostors_of_a_large_set(self):
        (_, _, features, ids), _ = random_sets()
        everything = pair_scores_within(features, ids)
        sample = pair_scores_within(features, ids, maximum_impostors=1000)
        assert torch.equal(sample.genuine, everything.genuine)
        assert sample.impostor_pairs == everything.impostor_pairs
        assert sample.sampled
        assert np.isin(sample.impostor, everything.impostor).all()
        expected = 1000 * everything.impostor_pairs / 90**2
        assert len(sample.impostor) == pytest.approx(expected, rel=0.15)

    def test_refuses_what_is_not_finite(self):
        with pytest.raises(DataError, match="1 of 2 test features are not finite"):
            pair_scores_within(torch.tensor([[1.0], [float("inf")]]), torch.tensor([0, 1]))


class TestSample:
    def test_keeps_all_genuine_pairs_and_draws_impostors_of_them_all(self):
        sets, _ = random_sets()
        everything, sample = pair_scores(*sets), pair_scores(*sets, maximum_impostors=500)
        assert torch.equal(sample.genuine, everything.genuine)
        assert sample.impostor_pairs == everything.impostor_pairs
        assert sample.sampled
        assert len(everything.impostor.unique()) == len(everything.impostor)
        assert len(sample.impostor.unique()) == len(sample.impostor)
        assert np.isin(sample.impostor, everything.impostor).all()
        expected = 500 * everything.impostor_pairs / (20 * 90)
        assert len(sample.impostor) == pytest.approx(expected, rel=0.1)

    def test_repeats_with_its_seed_whatever_the_blocks(self):
        sets, _ = random_sets()
        runs = [
            pair_scores(*sets, maximum_impostors=300, seed=seed, block_bytes=size).impostor
            for seed, size in ((0, 2**26), (0, 1), (0, 5000), (1, 2**26))
        ]
        torch.testing.assert_close(runs[1], runs[0])
        torch.testing.assert_close(runs[2], runs[0])
        assert not torch.equal(runs[3], runs[0])

    def test_every_impostor_pair_is_drawn_equally_often(self):
        sets, _ = random_sets(queries=4, gallery=25)
        scores = pair_scores(*sets).impostor.numpy()
        drawn = np.zeros(len(scores))
        for seed in range(200):
            sample = pair_scores(*sets, maximum_impostors=30, seed=seed).impostor.numpy()
            drawn += np.isin(scores, sample)
        assert drawn / 200 == pytest.approx(np.full(len(scores), 0.3), abs=0.15)

    @pytest.mark.parametrize("pairs", [1001, 10**6 - 1, 10**16 + 3])
    def test_one_pair_of_each_stretch_is_drawn(self, pairs):
        drawn = _draw(pairs, 1000, seed=0).tolist()
        edges = [number * pairs // 1000 for number in range(1001)]
        assert all(
            first <= pair < after
            for first, pair, after in zip(edges[:-1], drawn, edges[1:], strict=True)
        )


class TestRefusals:
    def refused(self, *arguments, **options):
        with pytest.raises(DataError) as caught:
            pair_scores(*arguments, **options)
        return str(caught.value)

    def test_cameras_of_one_set_only(self):
        sets, cameras = random_sets()
        assert "give both or neither" in self.refused(*sets, query_cameras=cameras[0])

    def test_features_and_labels(self):
        sets, _ = random_sets()
        assert "query set is empty" in self.refused(sets[0][:0], sets[1][:0], *sets[2:])
        sets[2][3, 0] = float("nan")
        assert "1 of 90 gallery features are not finite" in self.refused(*sets)
        assert "8 dimensions, gallery features have 4" in self.refused(
            *sets[:2], torch.ones(90, 4), sets[3]
        )

    def test_an_impossible_maximum(self):
        sets, _ = random_sets()
        assert "expected 1 or more" in self.refused(*sets, maximum_impostors=0)
        with pytest.raises(DataError, match=r"at most 0 impostor pairs .* expected 1 or more"):
            pair_scores_within(*sets[:2], maximum_impostors=0)
