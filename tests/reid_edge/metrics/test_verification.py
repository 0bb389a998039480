import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from reid_edge.core.errors import DataError
from reid_edge.metrics import evaluate_verification

TARGETS = (1.0, 0.5, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)


def random_scores(seed, genuine=60, impostors=900, digits=None):
    generator = np.random.default_rng(seed)
    scores = np.concatenate(
        [generator.normal(0.6, 0.2, genuine), generator.normal(0.3, 0.2, impostors)]
    )
    scores = scores if digits is None else scores.round(digits)
    order = generator.permutation(len(scores))
    same = np.arange(len(scores)) < genuine
    return torch.from_numpy(scores[order]).float(), torch.from_numpy(same[order])


def curve(scores, same):
    """scikit-learn's points without the first, whose threshold is infinite."""
    false, true, thresholds = roc_curve(same.numpy(), scores.numpy(), drop_intermediate=False)
    return false[1:], true[1:], thresholds[1:]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("digits", [None, 2, 1])
def test_operating_points_are_scikit_learns(seed, digits):
    sizes = np.random.default_rng(seed)
    scores, same = random_scores(
        seed, int(sizes.integers(1, 100)), int(sizes.integers(1, 2000)), digits
    )
    false, true, thresholds = curve(scores, same)
    result = evaluate_verification(scores, same, TARGETS)
    for target, point in zip(TARGETS, result.operating_points, strict=True):
        allowed = np.flatnonzero(false <= target)
        if target < 1 / result.impostor_pairs:
            assert point.true_accept_rate is None
        elif len(allowed) == 0:
            assert (point.true_accept_rate, point.threshold) == (0.0, None)
        else:
            best = allowed[-1]
            assert point.threshold == thresholds[best]
            assert point.true_accept_rate == pytest.approx(true[best], abs=1e-12)
            assert point.false_accept_rate == pytest.approx(false[best], abs=1e-12)
            assert point.false_accept_rate <= target
            assert point.reason is None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("digits", [None, 2, 1])
def test_equal_error_is_at_scikit_learns_closest_point(seed, digits):
    sizes = np.random.default_rng(seed)
    scores, same = random_scores(
        seed, int(sizes.integers(1, 40)), int(sizes.integers(1, 500)), digits
    )
    false, true, thresholds = curve(scores, same)
    gaps = np.abs(false - (1 - true))
    result = evaluate_verification(scores, same)
    at = np.flatnonzero(thresholds == result.equal_error_threshold)
    assert len(at) == 1
    assert gaps[at[0]] == pytest.approx(gaps.min(), abs=1e-12)
    assert result.equal_error_rate == pytest.approx((false + 1 - true)[at[0]] / 2, abs=1e-12)


def test_an_example_by_hand():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    same = torch.tensor([True, True, False, True, False, False, False, True])
    result = evaluate_verification(scores, same, (0.25, 0.5, 1.0))
    assert result.equal_error_rate == 0.25
    assert result.equal_error_threshold == pytest.approx(0.6)
    points = [(p.true_accept_rate, p.false_accept_rate) for p in result.operating_points]
    assert points == [(0.75, 0.25), (0.75, 0.5), (1.0, 1.0)]
    thresholds = [p.threshold for p in result.operating_points]
    assert thresholds == pytest.approx([0.6, 0.5, 0.2])
    assert (result.genuine_pairs, result.impostor_pairs) == (4, 4)


def test_perfect_scores():
    scores, same = torch.tensor([0.9, 0.8, 0.1, 0.2]), torch.tensor([True, True, False, False])
    result = evaluate_verification(scores, same, (0.5,))
    assert result.equal_error_rate == 0
    assert result.equal_error_threshold == pytest.approx(0.8)
    assert result.operating_points[0].true_accept_rate == 1


def test_a_collapsed_embedding():
    result = evaluate_verification(torch.ones(50), torch.arange(50) < 10, (1.0, 0.1))
    assert result.equal_error_rate == 0.5
    everything, nothing = result.operating_points
    assert (everything.true_accept_rate, everything.threshold) == (1.0, 1.0)
    assert (nothing.true_accept_rate, nothing.threshold) == (0.0, None)
    assert nothing.reason == "the highest score ties across 40 impostor pairs"


def test_a_target_below_one_impostor_pair_is_refused_with_its_reason():
    scores, same = random_scores(0, impostors=49)
    kept, refused = evaluate_verification(scores, same, (1 / 49, 1 / 50)).operating_points
    assert kept.threshold is not None
    assert (refused.true_accept_rate, refused.false_accept_rate, refused.threshold) == (None,) * 3
    assert refused.reason == "below one in 49, the number of impostor pairs"


def test_the_result_is_json():
    scores, same = random_scores(1)
    result = evaluate_verification(scores, same).to_dict()
    read = json.loads(json.dumps(result))
    assert [point["target"] for point in read["operating_points"]] == [0.1, 0.01, 0.001, 0.0001]
    assert read["equal_error_rate"] == result["equal_error_rate"]


def test_half_precision_scores():
    scores, same = random_scores(2)
    half = evaluate_verification(scores.half(), same)
    assert half == evaluate_verification(scores.half().float(), same)


class TestRefusals:
    def refused(self, scores, same, **options):
        with pytest.raises(DataError) as caught:
            evaluate_verification(scores, same, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_pairs_of_one_kind_only(self):
        assert "no genuine pairs among the 3" in self.refused(torch.ones(3), torch.zeros(3) > 0)
        assert "no impostor pairs among the 3" in self.refused(torch.ones(3), torch.ones(3) > 0)
        assert "no genuine pairs among the 0" in self.refused(torch.ones(0), torch.ones(0) > 0)

    def test_scores_that_are_not_finite(self):
        scores, same = random_scores(0)
        scores[[4, 7]] = math.nan
        assert "2 of 960 scores are not finite, the first at index 4" in self.refused(scores, same)

    def test_shapes_and_types(self):
        scores, same = random_scores(0)
        assert "scores have shape (960,) and labels (5,)" in self.refused(scores, same[:5])
        assert "expected bool" in self.refused(scores, same.long())

    @pytest.mark.parametrize("target", [0.0, -0.1, 1.5, math.nan])
    def test_targets_out_of_range(self, target):
        scores, same = random_scores(0)
        assert "must be in (0, 1]" in self.refused(scores, same, targets=(target,))
