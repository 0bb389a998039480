"""Scores that are measured on the stage's pictures."""

from pathlib import Path

import pytest
import torch

from pipeline.config import Config, DataSettings, PruneStage
from pipeline.context import StageContext
from pipeline.stages.channel_scores import measure_channels
from prune.criteria import MEASURED, Criterion
from prune.layers import layer_widths
from reid.data.records import ReidData
from reid.models import build_model


@pytest.fixture
def context(tiny_data: ReidData, tmp_path: Path) -> StageContext:
    config = Config(data=DataSettings(root=tiny_data.root, height=32, width=32, workers=0))
    return StageContext("prune", config, tmp_path, tiny_data, None, None, "", (32, 32))


@pytest.mark.parametrize("criterion", MEASURED)
def test_every_layer_is_scored_and_again_the_same(
    context: StageContext, criterion: Criterion
) -> None:
    model = build_model("osnet_x0_25", num_classes=8).eval()
    settings = PruneStage(criterion=criterion, criterion_pictures=6)
    first, again = (measure_channels(context, settings, model, iteration=1) for _ in range(2))
    assert first is not None
    assert again is not None
    assert {name: len(score) for name, score in first.items()} == layer_widths(model)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = measure_channels(context, settings, model, iteration=2)
    assert other is not None
    assert not torch.equal(first["conv1.conv"], other["conv1.conv"])


def test_norms_need_no_pictures(context: StageContext) -> None:
    model = build_model("osnet_x0_25", num_classes=8)
    assert measure_channels(context, PruneStage(criterion="l2"), model, iteration=1) is None
