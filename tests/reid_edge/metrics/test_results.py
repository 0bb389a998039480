"""An evaluation as JSON: it comes back as it was, and anything else is refused in one line."""

import json
import subprocess
import sys

import pytest
import torch
from pydantic import BaseModel

from reid_edge import metrics
from reid_edge.core.errors import DataError
from reid_edge.metrics import evaluate_ranking, evaluate_verification
from reid_edge.metrics.results import EvaluatedData, Evaluation, PairCounts

PARTS = (slice(8), slice(8, 20))


def evaluation() -> Evaluation:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(20, 8, generator=generator)
    ids, cameras = torch.arange(20) % 5, torch.arange(20) % 3
    query, gallery = ([x[part] for x in (features, ids, cameras)] for part in PARTS)
    ranking = evaluate_ranking(*query, *gallery)
    scores = torch.randn(40, generator=generator)
    return Evaluation(
        ranking={"cosine": ranking},
        verification=evaluate_verification(scores, torch.arange(40) < 12),
        pairs=PairCounts(which="of all test images", genuine=12, impostor=28),
        has_cameras=True,
        query_images=8,
        gallery_images=12,
        data=EvaluatedData(root="set", format="market1501"),
    )


def test_json_keeps_every_bit() -> None:
    result = evaluation()
    text = result.to_json()
    assert Evaluation.from_json(text) == result
    assert json.loads(text) == result.to_dict()
    assert json.loads(text)["schema_version"] == 1
    assert list(json.loads(text)["ranking"]["cosine"]["cumulative_matching"]) == [
        "1", "5", "10", "20",
    ]  # fmt: skip


def test_it_is_a_field_of_other_models() -> None:
    class Stage(BaseModel):
        metrics: Evaluation

    stage = Stage(metrics=evaluation())
    assert Stage.model_validate_json(stage.model_dump_json()) == stage


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"cosine": {}}, "cosine: Extra inputs are not permitted"),
        ({"query_images": "many"}, "query_images: Input should be a valid integer"),
    ],
)
def test_another_layout_is_refused(change: dict[str, object], reason: str) -> None:
    text = json.dumps(evaluation().to_dict() | change)
    expected = r"^runs/x/metrics.json: not the result of an evaluation, schema version 1 \("
    with pytest.raises(DataError, match=expected + reason) as caught:
        Evaluation.from_json(text, "runs/x/metrics.json")
    assert "\n" not in str(caught.value)


def test_damaged_json_is_refused() -> None:
    with pytest.raises(DataError, match=r"metrics: not the result of .*Invalid JSON"):
        Evaluation.from_json(evaluation().to_json()[:-20])


def test_missing_pairs() -> None:
    counts = {"genuine": (0, 5), "impostor": (5, 0), None: (1, 1)}
    for missing, (genuine, impostor) in counts.items():
        assert PairCounts(which="", genuine=genuine, impostor=impostor).missing == missing


def test_results_do_not_need_torch() -> None:
    program = "import reid_edge.metrics.results, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_public_names() -> None:
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'evaluate_rankings'"):
        metrics.evaluate_rankings  # noqa: B018
