"""Where pruning is to end, in all the ways that the settings can say it."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.config import config_class
from pipeline.settings_io import load_config
from pipeline.stages.prune import PRUNE
from pipeline.target_widths import (
    TRACE_SIZE,
    Groups,
    final_widths,
    full_width_model,
    latency_share,
    schedule,
)
from prune.costs import CostModel
from prune.latency_search import ProbeTime
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.plan_file import PlanFile, write_plan
from reid_edge.core.errors import PipelineError, PruneError
from reid_edge.models.checkpoint import load_checkpoint
from reid_edge.models.registry import build_model

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

Config = config_class()

EXAMPLE = torch.zeros(1, 3, 64, 32)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(tiny_config: Path) -> Callable[..., Config]:
    return lambda *overrides: load_config(tiny_config, overrides)


@pytest.fixture(scope="module")
def groups(short_networks: None) -> Groups:
    """The groups of the tiny run's network, which takes seconds to trace."""
    model = build_model("short_osnet_x0_5", num_classes=2, embedding_dim=32)
    return find_groups(model.eval(), torch.zeros(2, 3, *TRACE_SIZE))


def widths_of(config: Config, groups: Groups | None = None) -> dict[str, int]:
    torch.manual_seed(0)
    return final_widths(config, PRUNE, full_width_model(config), groups=groups)


def plan_file(folder: Path, widths: dict[str, int], architecture: str = "short_osnet_x0_5") -> Path:
    """Write a plan and return its path."""
    plan = PlanFile(
        architecture=architecture, input_size=(64, 32), widths=widths, macs=1, parameters=1
    )
    write_plan(folder / "plan.json", plan)
    return folder / "plan.json"


def test_a_share_keeps_that_share_everywhere_but_the_embedding(
    settings: Callable[..., Config], groups: Groups
) -> None:
    config = settings("prune.target=0.5")
    widths = widths_of(config, groups)
    narrow = build_model("short_osnet_x0_25", num_classes=2, embedding_dim=32)
    # Half of the three hidden channels of some gates is two here, one in the architecture.
    for name, width in layer_widths(narrow).items():
        assert widths[name] == width or "gate.fc1" in name


def test_ratios_multiples_and_untouched_layers(
    settings: Callable[..., Config], groups: Groups
) -> None:
    widths = widths_of(
        settings(
            "prune.target=0.6",
            "prune.ratios={conv3.*: 0.9}",
            "prune.multiple=8",
            "prune.untouched=[conv4.0.conv1.conv]",
        ),
        groups,
    )
    assert widths["conv1.conv"] == 16  # 0.6 of 32 is 19.2, the next multiple of 8 is 16
    assert widths["conv3.0.conv1.conv"] == 40  # 0.9 of 48 is 43.2
    assert widths["conv4.0.conv1.conv"] == 64
    assert widths["conv5.conv"] == 152


@pytest.mark.parametrize(
    ("target", "measure"),
    [
        ("{macs: 0.4}", "macs"),
        ("{parameters: 0.4, widths: uniform}", "parameters"),
        ("{macs: 9.0e+6}", "macs"),
    ],
)
def test_budgets_are_kept(
    settings: Callable[..., Config], groups: Groups, target: str, measure: str
) -> None:
    config = settings(f"prune.target={target}")
    source = full_width_model(config)
    costs = CostModel(source, EXAMPLE)
    full, found = (
        getattr(costs.cost(widths), measure) for widths in ({}, widths_of(config, groups))
    )
    limit = 9e6 if "9.0e" in target else 0.4 * full
    assert 0.9 * limit < found <= limit


def test_a_latency_budget_is_what_is_measured(
    settings: Callable[..., Config], groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings("prune.target={latency: 0.6, widths: uniform}")
    source = full_width_model(config)
    costs = CostModel(source, EXAMPLE)
    full = costs.cost({}).macs

    def half_of_it_is_fixed(_source: nn.Module, widths: dict[str, int], *_: object) -> ProbeTime:
        ratio = 0.5 + 0.5 * costs.cost(widths).macs / full
        return ProbeTime(ratio, ratio, ratio, 1.0)

    # Times are not for tests; what is searched for is.
    monkeypatch.setattr("pipeline.target_widths.latency_share", half_of_it_is_fixed)
    found = costs.cost(final_widths(config, PRUNE, source, groups=groups)).macs / full
    assert 0.17 < found <= 0.2


def test_latency_is_measured_beside_the_full_width_model(
    settings: Callable[..., Config], groups: Groups
) -> None:
    config = settings("prune.target={latency: 0.6}")
    source = full_width_model(config)
    widths = layer_widths(build_model("short_osnet_x0_25", num_classes=2, embedding_dim=32))
    time = latency_share(source, widths, config, groups)
    assert 0 < time.ratio < 10
    assert 0 < time.lower <= time.upper
    assert time.full_ms > 0


def test_a_plan_file_says_the_widths(
    settings: Callable[..., Config], groups: Groups, tmp_path: Path
) -> None:
    config = settings(f"prune.target={plan_file(tmp_path, {'conv5.conv': 77})}")
    changed = {
        name: width
        for name, width in widths_of(config, groups).items()
        if width != layer_widths(full_width_model(config))[name]
    }
    assert changed == {"conv5.conv": 77}


def test_a_plan_file_that_splits_a_group_is_refused(
    settings: Callable[..., Config], groups: Groups, tmp_path: Path
) -> None:
    path = plan_file(tmp_path, {"conv2.0.conv3.conv": 7})
    with pytest.raises(PipelineError, match=r"plan.json: 'conv2.0.conv3.conv' and '.*' share"):
        widths_of(settings(f"prune.target={path}"), groups)


@pytest.mark.parametrize(
    ("planned", "words"),
    [
        ({"fc.0": 16}, "'fc.0' gives 16 channels and is the embedding, which has 32 here"),
        ({"classifier": 1}, "'classifier' has an output for each identity whatever the plan"),
    ],
)
def test_a_plan_file_that_changes_the_output_is_refused(
    settings: Callable[..., Config],
    groups: Groups,
    tmp_path: Path,
    planned: dict[str, int],
    words: str,
) -> None:
    path = plan_file(tmp_path, planned)
    with pytest.raises(PipelineError, match=f"plan.json: {re.escape(words)}"):
        widths_of(settings(f"prune.target={path}"), groups)
    plan_file(tmp_path, {"fc.0": 32, "conv5.conv": 77})
    assert widths_of(settings(f"prune.target={path}"), groups)["conv5.conv"] == 77


@pytest.mark.parametrize("way", ["linear", "geometric"])
def test_schedules_end_at_the_target(settings: Callable[..., Config], way: str) -> None:
    config = settings(f"prune.schedule={way}", "prune.iterations=4")
    source = full_width_model(config)
    final = final_widths(config, PRUNE, source)
    steps = schedule(config.prune, source, final)
    assert len(steps) == 5
    assert steps[-1] == final
    first_cut, last_cut = (steps[i]["conv5.conv"] - steps[i + 1]["conv5.conv"] for i in (0, 3))
    assert first_cut > last_cut if way == "geometric" else first_cut == last_cut


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["prune.target=short_osnet_x0_3"],
            "prune.target: unknown architecture 'short_osnet_x0_3'",
        ),
        (["prune.target=1.5"], "prune.target: input should be less than or equal to 1"),
        (["prune.target={macs: 0.3, latency: 0.5}"], "names one of macs, parameters and latency"),
        (["prune.target={flops: 0.3}"], "unknown setting 'prune.target.flops'"),
        (
            ["prune.ratios={conv2.*: 0.5}"],
            "prune.ratios: prune.target=short_osnet_x0_25 says every",
        ),
        (["prune.target={macs: 0.3}", "prune.ratios={conv2.*: 0.5}"], "finds the shares itself"),
        (["prune.target={macs: 0.001}"], "cannot be met: the narrowest model"),
        (["prune.target=0.5", "prune.untouched=[conv9]"], "prune.untouched: 'conv9' fits no layer"),
        (
            ["prune.criterion=taylr"],
            "prune.criterion: unknown criterion 'taylr': did you mean 'tay",
        ),
        (["prune.criterion_images=1"], "prune.criterion_images: input should be greater"),
        (["prune.recalibration_images=1"], "one image has no statistics; give at least 2"),
        (["prune.target=nowhere/plan.json"], "nowhere/plan.json: cannot read this plan"),
    ],
)
def test_what_cannot_be_asked_for(
    settings: Callable[..., Config], groups: Groups, overrides: Sequence[str], words: str
) -> None:
    with pytest.raises((PipelineError, PruneError), match=re.escape(words)):
        widths_of(settings(*overrides), groups)


def test_a_plan_for_another_architecture_is_refused(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    path = plan_file(tmp_path, {"conv5.conv": 7}, architecture="osnet_x1_0")
    with pytest.raises(PipelineError, match=r"a plan for osnet_x1_0, but model.architecture is"):
        widths_of(settings(f"prune.target={path}"))


def test_a_model_of_its_own_widths_goes_through_every_stage(
    command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, output, errors = command(
        "--run", str(run), "model.architecture=short_osnet_x0_25", "prune.target={macs: 0.5}",
        "prune.multiple=4", "train.epochs=0",
        "prune.criterion=reconstruction", "prune.criterion_images=16",
        "prune.tuning.epochs=1", "finetune.epochs=1",
    )  # fmt: skip
    assert code == 0, errors
    plan = json.loads((run / "prune" / "plan.json").read_text())
    model, info = load_checkpoint(run / "finetune" / "checkpoint.pt")
    assert info.architecture == "short_osnet_x0_25"
    assert info.widths
    assert {name: layer_widths(model)[name] for name in plan["widths"]} == plan["widths"]
    assert len(set(plan["widths"].values())) > 3
    assert (run / "quantize" / "int8.pt").is_file()
    report = json.loads((run / "prune" / "iteration_2" / "iteration.json").read_text())
    for step in ("before_tuning", "after_tuning"):
        assert set(report["hints"][step]) == {"conv1", "conv2", "conv3", "conv4", "conv5"}
    assert "Relative squared error of each stage" in (run / "report.html").read_text()
    code, output, _ = command("--run", str(run), "--plan", "--layers", config=False)
    assert code == 0
    full = layer_widths(build_model("short_osnet_x0_25", num_classes=8, embedding_dim=32))
    assert next(name for name, width in plan["widths"].items() if width < full[name]) in output
    assert "reuse" in output


@pytest.fixture
def distinct_people(tmp_path: Path) -> Path:
    """People so different that a network of random weights tells them apart on any machine."""
    random = np.random.default_rng(0)
    for folder, people in (("bounding_box_train", range(8)), ("query", range(10, 14))):
        for person in people:
            pattern = random.integers(0, 256, (64, 32, 3), dtype=np.uint8)
            for camera in (1, 2):
                for also in {folder, "bounding_box_test" if folder == "query" else folder}:
                    path = tmp_path / "people" / also / f"{person:04}_c{camera}s1_000001_00.jpg"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pattern).save(path)
    return tmp_path / "people"


@pytest.mark.parametrize(("failed", "good"), [(1, "train"), (2, "prune/iteration_1")])
def test_an_iteration_beyond_its_budget_is_tuned_longer_and_then_taken_back(
    command: Command,
    tmp_path: Path,
    distinct_people: Path,
    monkeypatch: pytest.MonkeyPatch,
    failed: int,
    good: str,
) -> None:
    run = tmp_path / "run"
    rounds: list[str] = []

    def tune(_context: object, model: nn.Module, *_: object, label: str, **__: object) -> None:
        """Ruin the model after the cut that is to fail, and do nothing after another."""
        rounds.append(label)
        if f"{failed}/3" in label:
            nn.init.zeros_(model.get_submodule("embedding.0").weight)  # type: ignore[arg-type]

    monkeypatch.setattr("pipeline.stages.tuning.train_model", tune)
    code, output, errors = command(
        "--run", str(run), "--stages", "train,prune", f"data.root={distinct_people}",
        "model.architecture=small_net", "prune.target=0.5",
        "train.epochs=0", "prune.iterations=3", "prune.accuracy_budget=0.2",
    )  # fmt: skip
    assert code == 0, errors
    assert rounds[failed - 1 :] == [f"prune {failed}/3", f"prune {failed}/3 again"]
    assert "tuning once more" in errors
    said = " ".join(output.split())
    where = "full width" if failed == 1 else "iteration 1"
    assert f"prune went back to {where}: iteration {failed} of 3 lost" in said
    report = json.loads((run / "prune" / f"iteration_{failed}" / "iteration.json").read_text())
    assert report["tuning_rounds"] == 2
    assert not (run / "prune" / f"iteration_{failed + 1}").exists()
    left, _ = load_checkpoint(run / "prune" / "checkpoint.pt")
    before, _ = load_checkpoint(run / good / "checkpoint.pt")
    for name, value in before.state_dict().items():
        assert torch.equal(value, left.state_dict()[name]), name


def test_the_plan_waits_for_weights_that_it_depends_on(command: Command, tmp_path: Path) -> None:
    code, output, _ = command("--run", str(tmp_path / "r"), "--plan", "prune.target={macs: 0.5}")
    assert code == 0
    assert "The widths depend on the trained weights" in output
