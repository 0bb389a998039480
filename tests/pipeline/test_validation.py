"""A stage that chooses its best epoch by identities set apart."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reid_edge.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.medium

Command = Callable[..., tuple[int, str, str]]


def test_a_stage_ends_with_its_best_epoch_and_leaves_the_last(
    command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    code, _, error = command(
        "--run", str(folder), "--stages", "train", "data.validation_share=0.25",
        "train.identities_per_batch=2", "train.patience=1", "model.architecture=small_net",
        "prune.target=small_net",
    )  # fmt: skip
    assert code == 0, error
    assert error.count("on the validation identities") == 2
    best, info = load_checkpoint(folder / "train" / "checkpoint.pt")
    last, last_info = load_checkpoint(folder / "train" / "last.pt")
    assert info.num_classes == last_info.num_classes == 6  # of eight
    assert info.metrics
    assert last_info.metrics == {}
    values = last.state_dict()
    scores = [
        float(line.split("mAP ")[1].split()[0])
        for line in error.splitlines()
        if "on the validation" in line
    ]
    same = all(torch.equal(value, values[name]) for name, value in best.state_dict().items())
    assert same == (scores[1] > scores[0])
    assert not list(folder.rglob("*.ckpt"))
    record = json.loads((folder / "train" / "stage.json").read_text())
    # Nothing starts from the last epoch, so it may be thrown away.
    assert list(record["outputs"]) == ["checkpoint.pt"]
    assert record["settings"]["data"]["validation_share"] == 0.25
