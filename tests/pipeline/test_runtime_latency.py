"""A latency in milliseconds as the target: timed here in a runtime, or from a device's table."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.config import config_class
from pipeline.dependencies import stage_inputs, stage_settings
from pipeline.device_pack import cost_entries
from pipeline.runtime_latency import (
    LatencyTable,
    RuntimeTimer,
    check_runtime,
    read_table,
    write_for,
)
from pipeline.settings.target import RUNTIMES, RuntimeName, WidthBudget
from pipeline.settings_io import load_config
from pipeline.stages.prune import PRUNE
from pipeline.target_widths import (
    TRACE_SIZE,
    Groups,
    check_reachable,
    final_widths,
    full_width_model,
)
from prune.costs import CostModel
from prune.nni_backend import find_groups
from quantize.onnx_macs import onnx_cost
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PipelineError, PruneError
from reid_edge.models.checkpoint import load_checkpoint
from reid_edge.models.registry import build_model

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

Command = Callable[..., tuple[int, str, str]]
Config = config_class()
SIZE = (64, 32)


@pytest.fixture(scope="module")
def groups(short_networks: None) -> Groups:
    model = build_model("small_net", num_classes=2)
    return find_groups(model.eval(), torch.zeros(2, 3, *TRACE_SIZE))


@pytest.fixture
def settings(tiny_config: Path) -> Callable[..., Config]:
    small = ("model.architecture=small_net", "prune.target=0.5")
    return lambda *overrides: load_config(tiny_config, (*small, *overrides))


def table_file(folder: Path, *points: tuple[int, float], threads: int = 1, **file: object) -> Path:
    """Write what a device measured: one ONNX file for each (operations, milliseconds)."""
    rows = [
        {
            "name": f"{macs}.onnx", "kind": "onnx", "sha256": "0", "macs": macs, **file,
            "timings": [
                {"batch": batch, "threads": threads, "median_ms": batch * ms,
                 "lower_quartile_ms": ms, "upper_quartile_ms": ms}
                for batch in (1, 8)
            ],
        }
        for macs, ms in points
    ]  # fmt: skip
    path = folder / "result.json"
    path.write_text(json.dumps({"format": 1, "machine": {}, "rounds": 3, "files": rows}))
    return path


@pytest.mark.parametrize(
    ("runtime", "network"),
    [
        ("onnx", "small_net"),
        pytest.param("onnx_int8", "short_osnet_x0_5", marks=pytest.mark.slow),
    ],
)
def test_operations_of_onnx_files_are_those_of_the_model(
    runtime: RuntimeName, network: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build_model(network, num_classes=2, embedding_dim=32).eval()
    expected = model_cost(model, torch.zeros(1, 3, *SIZE)).macs
    path = write_for(model, WidthBudget(latency_ms=1, runtime=runtime), SIZE, tmp_path)
    cost = onnx_cost(path)
    assert cost is not None
    assert cost.int8 == (runtime == "onnx_int8")
    # In int8 files pooling is a convolution.
    assert cost.macs == pytest.approx(expected, rel=0.01 if cost.int8 else 0)
    assert cost_entries(path, "onnx") == {"macs": cost.macs, "int8": cost.int8}
    assert cost_entries(path, "litert") == {}


def test_a_table_is_a_line_through_its_files() -> None:
    table = LatencyTable([(100, 1.0), (200, 2.0), (400, 8.0)])
    # Nothing is told of what lies beyond the files.
    assert [table.at(macs) for macs in (50, 100, 150, 200, 300, 400, 500)] == pytest.approx(
        [1.0, 1.0, 1.5, 2.0, 5.0, 8.0, 8.0]
    )
    assert table.most_macs(0.9) is None
    assert [table.most_macs(limit) for limit in (1.0, 1.5, 5.0, 8.0, 9.0)] == pytest.approx(
        [100, 150, 300, 400, 400]
    )
    # The widest model that is fast enough, also where a narrower one is slower.
    uneven = LatencyTable([(100, 3.0), (200, 2.0), (400, 4.0)])
    assert [uneven.most_macs(limit) for limit in (2.5, 1.0)] == [pytest.approx(250), None]
    assert str(uneven) == "2.00 to 4.00 ms at 0.0 M to 0.0 M MACs"


def test_a_table_has_two_files_of_the_runtime_or_more(tmp_path: Path) -> None:
    path = table_file(tmp_path, (200, 2.0), (100, 1.0))
    assert read_table(path, "onnx", 1).points == [(100, 1.0), (200, 2.0)]
    for runtime, threads in (("onnx_int8", 1), ("onnx", 2)):
        with pytest.raises(PipelineError, match=rf"0 file\(s\) of {runtime} with a known number"):
            read_table(path, runtime, threads)
    path = table_file(tmp_path, (200, 2.0), (200, 3.0), int8=True)
    with pytest.raises(PipelineError, match=r"1 file\(s\) of onnx_int8 .* two or more"):
        read_table(path, "onnx_int8", 1)


def test_of_several_times_of_one_size_the_median_counts(tmp_path: Path) -> None:
    points = ((200, 2.0), (100, 1.0), (200, 9.0), (200, 3.0), (100, 2.0))
    table = read_table(table_file(tmp_path, *points), "onnx", 1)
    assert table.points == [(100, 1.5), (200, 3.0)]


def test_widths_within_the_milliseconds_of_a_device(
    settings: Callable[..., Config], groups: Groups, tmp_path: Path
) -> None:
    source = full_width_model(settings())
    costs = CostModel(source, torch.zeros(1, 3, *SIZE))
    full = costs.cost({}).macs
    path = table_file(tmp_path, (full, 4.0), (full // 4, 2.0))
    config = settings(f"prune.target={{latency_ms: 3.0, runtime: onnx, table: {path}}}")
    check_reachable(config, PRUNE)
    widths = final_widths(config, PRUNE, source, groups=groups)
    # 3 ms is on the line between a quarter and all of the operations, at 5 eighths of them.
    assert 0.4 < costs.cost(widths).macs / full <= 0.625
    assert all(widths[name] % 8 == 0 for name in costs.layers)
    assert any(widths[name] % 16 for name in costs.layers)
    already = settings(f"prune.target={{latency_ms: 5, runtime: onnx, table: {path}}}")
    with pytest.raises(PruneError, match=r"takes 4.00 ms as onnx already, which is within 5"):
        final_widths(already, PRUNE, source, groups=groups)
    with pytest.raises(PruneError, match=r"takes 4.00 ms as onnx already, which is within 5"):
        check_reachable(already, PRUNE)  # before anything is trained


def test_a_time_outside_of_a_table_is_refused_with_its_range(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    full = CostModel(full_width_model(settings()), torch.zeros(1, 3, *SIZE)).cost({}).macs

    def check(limit: float, *points: tuple[int, float], multiple: int = 1) -> None:
        path = table_file(tmp_path, *points)
        target = f"prune.target={{latency_ms: {limit}, runtime: onnx, table: {path}}}"
        check_reachable(settings(target, f"prune.multiple={multiple}"), PRUNE)

    words = r"prune.target.latency_ms: 1 ms is outside of .*result.json, whose files of onnx tell "
    with pytest.raises(PipelineError, match=words + r"of 2.00 to 4.00 ms at .* M MACs; raise it"):
        check(1, (full, 4.0), (full // 4, 2.0))
    with pytest.raises(PipelineError, match=r"5 ms is outside .* lower it, or measure a wider mod"):
        check(5, (full // 2, 4.0), (full // 4, 2.0))
    check(3, (full // 2, 4.0), (full // 4, 2.0))
    # The narrowest model has as many channels as the multiple that the runtime is fast with.
    check(2, (full, 4.0), (full // 6, 2.0))
    words = r"in 2 ms, .* allows .* M MACs, with widths in multiples of 32: the budget of"
    with pytest.raises(PruneError, match=words):
        check(2, (full, 4.0), (full // 6, 2.0), multiple=32)


def test_a_run_is_pruned_to_the_milliseconds_of_a_device(command: Command, tmp_path: Path) -> None:
    source = build_model("small_net", num_classes=2, embedding_dim=32).eval()
    costs = CostModel(source, torch.zeros(1, 3, *SIZE))
    full = costs.cost({}).macs
    path = table_file(tmp_path, (full, 4.0), (full // 4, 2.0))
    code, _, err = command(
        "--run", str(tmp_path / "run"), "--stages", "train,prune", "model.architecture=small_net",
        f"prune.target={{latency_ms: 3.0, runtime: onnx, table: {path}}}",
        "train.epochs=0", "prune.iterations=1", "prune.tuning.epochs=0",
    )  # fmt: skip
    assert code == 0, err
    plan = json.loads((tmp_path / "run" / "prune" / "plan.json").read_text())
    assert 0.4 < plan["macs"] / full <= 0.625
    model, _ = load_checkpoint(tmp_path / "run" / "prune" / "checkpoint.pt")
    assert model_cost(model, torch.zeros(1, 3, *SIZE)).macs == plan["macs"]


def test_a_table_counts_by_its_content(settings: Callable[..., Config], tmp_path: Path) -> None:
    path = table_file(tmp_path, (200, 2.0), (100, 1.0))
    config = settings(f"prune.target={{latency_ms: 1.5, runtime: onnx, table: {path}}}")

    def inputs() -> dict[str, str]:
        return stage_inputs(config, PRUNE, data_hash="d", parent=None, made={})

    before, told = inputs(), stage_settings(config, PRUNE)
    assert str(path) not in json.dumps(told)
    table_file(tmp_path, (200, 2.0), (100, 1.1))
    changed = {name for name, digest in inputs().items() if digest != before[name]}
    assert changed == {"latency table"}


@pytest.mark.slow  # a process loads every runtime
def test_widths_are_measured_as_a_file_of_the_runtime(
    settings: Callable[..., Config], groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runtime_latency.ROUNDS", 2)
    config = settings("prune.target={latency_ms: 1000, runtime: onnx, widths: uniform}")
    # What a probe takes is not for a test: that the model was written and timed is.
    with pytest.raises(PruneError, match=r"the full-width model takes \d+\.\d\d ms as onnx alread"):
        final_widths(config, PRUNE, full_width_model(config), groups=groups)


@pytest.mark.slow  # two processes load every runtime
def test_a_probe_is_timed_beside_the_full_width_model(
    settings: Callable[..., Config],
    groups: Groups,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.runtime_latency.ROUNDS", 2)
    budget = WidthBudget(latency_ms=1, runtime="onnx")
    source = full_width_model(settings())
    timer = RuntimeTimer(source, budget, tmp_path, size=SIZE, groups=groups, trace_size=TRACE_SIZE)
    widths = final_widths(settings(), PRUNE, source, groups=groups)
    for _ in range(2):
        time = timer(widths)
        assert time.full_ms > 0
        assert 0 < time.lower <= time.upper
        assert time.ratio > 0
    costs = CostModel(source, torch.zeros(1, 3, *SIZE))
    for name, expected in (("full", costs.cost({}).macs), ("probe", costs.cost(widths).macs)):
        cost = onnx_cost(tmp_path / name / "float.onnx")
        assert cost is not None
        assert cost.macs == expected


def test_a_runtime_that_is_not_there_is_named_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reid_edge.core.exporter.missing_packages", lambda names: list(names))
    with pytest.raises(PipelineError, match=r"prune.target: openvino needs the package openvino: "):
        check_runtime(WidthBudget(latency_ms=1, runtime="openvino"))
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(PipelineError, match=r"prune.target: the runtime c needs a C compiler"):
        check_runtime(WidthBudget(latency_ms=1, runtime="c"))


def test_runtimes_say_which_widths_they_are_fast_with(
    settings: Callable[..., Config], groups: Groups, tmp_path: Path
) -> None:
    assert RUNTIMES["onnx_int8"].multiple == 16
    source = full_width_model(settings())
    full = CostModel(source, torch.zeros(1, 3, *SIZE)).cost({}).macs
    path = table_file(tmp_path, (full, 4.0), (full // 4, 1.0))
    target = f"prune.target={{latency_ms: 3.0, runtime: onnx, table: {path}}}"
    config = settings(target, "prune.multiple=16")
    widths = final_widths(config, PRUNE, source, groups=groups)
    assert all(width % 16 == 0 for name, width in widths.items() if name.startswith("conv"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            "{latency: 3}",
            "prune.target.latency: a share of the full-width model's latency in eager PyTorch on "
            "this machine, above 0 and up to 1 (0.5: half of it); for milliseconds, give "
            "{latency_ms: 2.0, runtime: onnx_int8}, found 3",
        ),
        ("{latency_ms: 2}", "latency_ms needs a runtime that it is measured in: one of onnx, onnx"),
        ("{macs: 0.5, runtime: onnx}", "runtime goes with latency_ms, a latency in milliseconds"),
        ("{latency: 0.5, threads: 2}", "threads goes with latency_ms"),
        ("{latency_ms: 2, runtime: tensorrt}", "prune.target.runtime: input should be 'onnx', 'on"),
        ("{latency_ms: 2, runtime: c, table: x.json}", "a table has latencies of ONNX files; give"),
        ("{latency_ms: 2, latency: 1, runtime: c}", "names one of macs, parameters and latency"),
        ("{latency_ms: 0, runtime: c}", "prune.target.latency_ms: input should be greater than 0"),
    ],
)
def test_what_cannot_be_asked_for(settings: Callable[..., Config], target: str, words: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(words)):
        settings(f"prune.target={target}")
    # Without quotes, a shell cuts it at the blanks.
    with pytest.raises(PipelineError, match=re.escape(words)):
        settings("train.epochs=1", *f"prune.target={target}".split())


def test_a_brace_that_is_never_closed_is_named(settings: Callable[..., Config]) -> None:
    with pytest.raises(PipelineError, match=r"^prune.target: cannot read the value '{macs:'; quo"):
        settings("prune.target={macs:", "0.5", "train.epochs=1")


def test_runs_of_before_still_fit() -> None:
    assert WidthBudget(macs=0.5).model_dump(mode="json") == {
        "macs": 0.5, "parameters": None, "latency": None, "widths": "by_loss",
    }  # fmt: skip
    budget = WidthBudget(latency_ms=2, runtime="c")
    assert WidthBudget.model_validate(budget.model_dump(mode="json")) == budget
