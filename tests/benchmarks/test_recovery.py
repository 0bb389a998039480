"""The recovery table's rows, run for real on images that fit in a test."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import recovery
from reid_edge.core.errors import PipelineError
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

TRAININGS = ("prune.tuning", "finetune")
SMALL = [
    "model.architecture=small_net",
    "prune.reconstruction_images=8", "prune.recalibration_images=8",
    *(f"{training}.identities_per_batch=4" for training in TRAININGS),
    *(f"{training}.images_per_identity=2" for training in TRAININGS),
    *(f"{training}.augmentation.crop_padding=2" for training in TRAININGS),
]  # fmt: skip
ROWS = {"one_cut": "small_net_x0_5", "uncut": "small_net", "scratch": "small_net_x0_5"}


def test_rows_end_where_they_say(
    tiny_market: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = build_model("small_net", num_classes=8, embedding_dim=512)
    teacher = tmp_path / "teacher.pt"
    save_checkpoint(teacher, model, describe(model, "small_net", input_size=(64, 32)))
    output = tmp_path / "output"
    arguments = [
        "--teacher", str(teacher), "--data", str(tiny_market), "--output", str(output),
        "--rows", ",".join(ROWS), "--target", "small_net_x0_5", "--size", "64,32",
        "--iterations", "2", "--tuning", "1", "--passes", "2", "--precision", "32-true",
        "--threads", str(torch.get_num_threads()),
    ]  # fmt: skip
    for setting in SMALL:
        arguments += ["--set", setting]
    monkeypatch.setattr("sys.argv", ["recovery", *arguments])
    options = recovery.parse_options()
    recovery.main(options)
    capsys.readouterr()

    for row, architecture in ROWS.items():
        (folder,) = output.glob(f"{row}-*")
        result = json.loads((folder / "recovery.json").read_text())
        _, info = load_checkpoint(folder / "finetune" / "checkpoint.pt")
        assert (info.architecture, info.widths) == (architecture, {})
        assert result["target"] == architecture
        assert result["passes"] == 2
        assert len(result["by_iteration"]) == (1 if row == "one_cut" else 0)
        assert 0 < result["result"]["mAP"] <= 1

    def refuse(*_: object) -> None:
        raise PipelineError("a row that is there was run again")

    monkeypatch.setattr(recovery, "run_row", refuse)
    monkeypatch.setenv("COLUMNS", "200")
    recovery.main(options)
    shown = capsys.readouterr().out
    for row in ROWS:
        assert recovery.ROWS[row].says in shown


def test_only_seeds_of_one_experiment_are_averaged(tmp_path: Path) -> None:
    def write(folder: str, seed: int, epochs: int, cuts: int, accuracy: float) -> None:
        content = {
            "says": "a row", "target": "osnet_x0_5", "iterations": 1, "passes": 10, "seed": seed,
            "settings": {"seed": seed, "prune": {"cuts": folder}, "finetune": {"epochs": epochs}},
            "teacher": {"mAP": 0.9}, "result": {"mAP": accuracy, "rank1": accuracy},
            "by_iteration": [{"after_surgery": {"mAP": 0.1}}] * cuts,
        }  # fmt: skip
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "recovery.json").write_text(json.dumps(content))

    def cells() -> list[tuple[str, str]]:
        shown = recovery.table(tmp_path)
        seeds, accuracy = ([*shown.columns[index].cells] for index in (4, 6))
        return [(str(s), str(a)) for s, a in zip(seeds, accuracy, strict=True)]

    # What was never cut is the same whatever the cuts would have been.
    write("k3-seed0", seed=0, epochs=4, cuts=0, accuracy=0.5)
    write("k8-seed0", seed=0, epochs=4, cuts=0, accuracy=0.5)
    write("k3-seed1", seed=1, epochs=4, cuts=0, accuracy=0.7)
    assert cells() == [("2", "60.0 ± 14.1")]
    write("other", seed=2, epochs=8, cuts=0, accuracy=0.3)
    assert cells() == [("2", "60.0 ± 14.1"), ("1", "30.0")]
    write("cut-a", seed=0, epochs=4, cuts=1, accuracy=0.2)
    write("cut-b", seed=1, epochs=4, cuts=1, accuracy=0.1)
    assert cells()[2:] == [("1", "20.0"), ("1", "10.0")]
