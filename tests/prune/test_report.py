"""A report says the channels before a cut, the plan, and the kept channels."""

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from prune.reconstruct import LayerFit
from prune.report import IterationReport, read_report, report_cut, write_report
from prune.surgery import cut
from reid_edge.core.errors import PruneError

WIDTHS = {"stem": 5, "pointwise": 5, "depthwise": 5, "gate": 5}


def make_report(model: nn.Module) -> IterationReport:
    example = torch.randn(1, 3, 8, 8)
    result = cut(model, WIDTHS, example=torch.randn(2, 3, 8, 8), check_input=example)
    return report_cut(model, result, WIDTHS, example=example, iteration=1, iterations=2)


def test_layers_and_totals(small_net: nn.Module) -> None:
    report = make_report(small_net)
    layers = {layer.name: layer for layer in report.layers}
    assert list(layers) == ["stem", "pointwise", "depthwise", "gate", "head"]
    depthwise = layers["depthwise"]
    assert (depthwise.channels_before, depthwise.channels_planned, depthwise.channels_kept) == (
        8, 5, 5,
    )  # fmt: skip
    assert depthwise.parameters_after == 5 * 9
    assert depthwise.macs_after == 5 * 9 * 64
    assert layers["head"].channels_kept == 5
    assert layers["head"].parameters_after == 5 * 5 + 5
    assert layers["head"].largest_removed_norm is None
    assert report.macs_after == sum(layer.macs_after for layer in report.layers)
    assert report.masked_compact_difference <= 1e-4
    assert set(report.seconds) == {"groups", "scores", "masks", "surgery", "check"}


def test_norms_and_scores_at_the_cut(small_net: nn.Module) -> None:
    example = torch.randn(2, 3, 8, 8)
    result = cut(small_net, WIDTHS, example=example, check_input=example)
    report = report_cut(
        small_net, result, WIDTHS, example=example[:1], iteration=1, iterations=2
    )  # fmt: skip
    layers = {layer.name: layer for layer in report.layers}
    for name in WIDTHS:
        kept = result.kept[name].tolist()
        removed = [channel for channel in range(8) if channel not in kept]
        rows = small_net.get_submodule(name).weight.detach()
        norms = [float(row.pow(2).sum().sqrt()) for row in rows]
        scores = result.scores[name].tolist()
        layer = layers[name]
        assert layer.largest_removed_norm == pytest.approx(max(norms[c] for c in removed))
        assert layer.smallest_kept_norm == pytest.approx(min(norms[c] for c in kept))
        assert layer.score_at_cut == pytest.approx(max(scores[c] for c in removed))
    assert layers["head"].score_at_cut is None


def test_reconstruction_errors_find_their_layers(small_net: nn.Module) -> None:
    report = make_report(small_net)
    assert all(layer.error_before is None for layer in report.layers)
    found = report.with_reconstruction({"gate": LayerFit(0.5, 0.25)})
    errors = {layer.name: (layer.error_before, layer.error_after) for layer in found.layers}
    assert errors.pop("gate") == (0.5, 0.25)
    assert set(errors.values()) == {(None, None)}


def test_json_and_back(small_net: nn.Module, tmp_path: Path) -> None:
    report, path = make_report(small_net), tmp_path / "report.json"
    write_report(path, report)
    assert read_report(path) == report
    assert json.loads(path.read_text())["schema_version"] == 1


def test_a_file_that_is_no_report_is_refused(small_net: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(PruneError, match=r"report\.json: cannot read this report; run the iter"):
        read_report(path)
    content = make_report(small_net).model_dump(mode="json")
    for wrong, words in (
        ({"schema_version": 2}, r"\(schema_version: Input should be 1\); run the iteration again"),
        ({"layer": []}, r"no report of an iteration \(layer: Extra inputs are not permitted\)"),
        ({"layers": [{"name": "stem"}]}, r"\(layers / 0 / group: Field required\)"),
    ):
        path.write_text(json.dumps(content | wrong))
        with pytest.raises(PruneError, match=words):
            read_report(path)


def test_the_table_names_every_layer(small_net: nn.Module) -> None:
    report = make_report(small_net)
    text = StringIO()
    Console(file=text, width=140).print(report.table())
    for layer in report.layers:
        assert layer.name in text.getvalue()
        assert layer.name in str(report)
