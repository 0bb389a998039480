"""The epoch that is nearest to the float model is kept, across interruptions and divergence."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning
import pytest
import torch
from torch import fx, nn

from pipeline.stages.qat_training import KeepNearest, Student


def make_student() -> Student:
    embed = fx.symbolic_trace(nn.Sequential(nn.Flatten(), nn.Linear(6, 4)))
    return Student(embed, nn.Linear(4, 3))


def train_epochs(callback: KeepNearest, student: Student, epochs: Sequence[int]) -> None:
    """Let every epoch leave its number in the weights."""
    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    for epoch in epochs:
        with torch.no_grad():
            for parameter in student.embed.parameters():
                parameter.fill_(epoch)
        callback.on_train_epoch_end(trainer, lightning.LightningModule())


def judging(errors: Sequence[float]) -> Callable[[fx.GraphModule], float]:
    given = iter(errors)
    return lambda _: next(given)


def weight_of(student: Student) -> float:
    return float(next(student.embed.parameters()).detach().flatten()[0])


def test_a_student_gives_logits_only_while_it_learns() -> None:
    student, images = make_student(), torch.randn(2, 3, 2, 1)
    logits, embeddings = student.train()(images)
    assert logits.shape == (2, 3)
    assert torch.equal(student.eval()(images), embeddings)


@pytest.mark.parametrize(
    ("errors", "kept"),
    [
        ([3.0, 1.0, 2.0], 2),
        ([1.0, 1.0, math.inf], 1),
        ([math.inf, 5.0, 7.0], 2),
        ([math.nan, 5.0, 7.0], 2),
    ],
)
def test_the_nearest_epoch_comes_back(errors: list[float], kept: int, tmp_path: Path) -> None:
    student = make_student()
    callback = KeepNearest(student, judging(errors), tmp_path / "nearest.ckpt", "test")
    train_epochs(callback, student, [1, 2, 3])
    assert callback.restore() == kept
    assert weight_of(student) == kept


def test_an_interrupted_training_remembers_what_was_nearest(tmp_path: Path) -> None:
    path, student = tmp_path / "nearest.ckpt", make_student()
    first = KeepNearest(student, judging([1.0, 0.5]), path, "test")
    train_epochs(first, student, [1])
    state = first.state_dict()
    # The second epoch was judged and kept, but its state was lost: it is trained again.
    train_epochs(first, student, [2])
    resumed = KeepNearest(student, judging([0.5, 0.7]), path, "test")
    resumed.load_state_dict(state)
    train_epochs(resumed, student, [2, 3])
    assert resumed.errors == [1.0, 0.5, 0.7]
    assert resumed.restore() == 2
    assert weight_of(student) == 2


def test_nothing_is_kept_where_every_epoch_diverged(tmp_path: Path) -> None:
    student = make_student()
    callback = KeepNearest(student, lambda _: math.inf, tmp_path / "nearest.ckpt", "test")
    train_epochs(callback, student, [1, 2])
    assert callback.restore() is None
    assert not (tmp_path / "nearest.ckpt").exists()
