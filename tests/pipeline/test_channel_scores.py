"""Scores that are measured on the stage's images."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.settings.cut_sections import PruneStage
from pipeline.settings.data import DataSettings
from pipeline.stages.channel_scores import scoring_data, warn_of_guessing
from prune.criteria import CRITERIA
from prune.criteria.criterion import Criterion, Needs, ScoreRequest, ScoringData, score_channels
from prune.layer_widths import layer_widths
from reid_edge.data.schema import ReidData
from reid_edge.models import build_model

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

Config = config_class()


@pytest.fixture
def context(tiny_data: ReidData, tmp_path: Path) -> StageContext:
    config = Config(data=DataSettings(root=tiny_data.root, height=32, width=32, workers=0))
    return StageContext(
        "prune", config, config.prune, tmp_path, tiny_data, None, None, "", (32, 32)
    )


MEASURED = [name for name, criterion in CRITERIA.items() if criterion.needs != "weights"]


def test_two_criteria_are_measured_on_images() -> None:
    assert MEASURED == ["taylor", "reconstruction"]


@pytest.mark.parametrize("criterion", MEASURED)
def test_every_layer_that_is_cut_is_scored_and_again_the_same(
    context: StageContext, criterion: str
) -> None:
    model = build_model("short_osnet_x0_25", num_classes=8).eval()
    settings = PruneStage(criterion=criterion, criterion_images=6)
    now = layer_widths(model)
    cut = {name: width for name, width in now.items() if name not in ("fc.0", "classifier")}
    widths = now | {name: max(1, width // 2) for name, width in cut.items()}

    def measure(iteration: int) -> dict[str, Tensor]:
        data = scoring_data(context, settings, "scores", iteration)
        layers = tuple(name for name in cut if now[name] > 1)
        request = ScoreRequest(model, layers, widths, groups=[], data=data)
        return score_channels(CRITERIA.load(criterion), request)

    first, again, other = measure(1), measure(1), measure(2)
    assert all(len(first[name]) == now[name] for name in first)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_taylor_scores_of_a_classifier_that_knows_nobody_are_called_noise(
    context: StageContext, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model = build_model("short_osnet_x0_25", num_classes=8)
    settings = PruneStage(criterion="taylor", criterion_images=8)

    def warnings() -> str:
        caplog.clear()
        with caplog.at_level("WARNING", logger="pipeline"):
            data = scoring_data(context, settings, "scores", 1)
            request = ScoreRequest(model, ("conv1.conv",), widths={}, groups=[], data=data)
            score_channels(CRITERIA.load("taylor"), request)
            warn_of_guessing(context, "taylor", data)
        return caplog.text

    assert "prune: the classifier does not know the training identities (cross ent" in warnings()
    data = scoring_data(context, settings, "scores", 1)
    assert data is not None
    learn(model, data)
    assert not warnings()


def learn(model: nn.Module, data: ScoringData) -> None:
    """Let a model learn whom some images show."""
    (stacked,), (classes,) = data.batches, data.labels
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(15):
        optimiser.zero_grad()
        F.cross_entropy(model.train()(stacked)[0], classes).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def test_norms_need_no_images(context: StageContext) -> None:
    assert scoring_data(context, PruneStage(criterion="l2"), "scores", 1) is None


@pytest.mark.parametrize("needs", ["images", "labelled_images"])
def test_a_criterion_from_outside_gets_what_it_needs(context: StageContext, needs: Needs) -> None:
    CRITERIA.register("toy", Criterion("toy", "a test's own", needs, lambda _: {}))
    try:
        data = scoring_data(context, PruneStage(criterion="toy", criterion_images=6), "scores", 1)
    finally:
        CRITERIA.unregister("toy")
    assert data is not None
    assert [batch.shape for batch in data.batches] == [(6, 3, 32, 32)]
    assert [len(labels) for labels in data.labels] == ([6] if needs == "labelled_images" else [])
