"""What the student is asked to copy."""

from math import log

import pytest
import torch
from torch import nn

from reid_edge.training.distillation import (
    OutputRecorder,
    at_size,
    distillation_terms,
    hint_terms,
    relative_squared_error,
    run_teacher,
    similarity_error,
)
from reid_edge.training.settings import DistillationSettings

ALL = DistillationSettings(embedding=1, cosine=1, similarity=1, logits=1)


def test_a_perfect_copy_costs_nothing() -> None:
    value, logits = torch.randn(5, 8), torch.randn(5, 3)
    terms = distillation_terms(
        ALL, embeddings=value, teacher_embeddings=value, logits=logits, teacher_logits=logits
    )
    assert set(terms) == {"embedding", "cosine", "similarity", "logits"}
    assert all(float(term) == pytest.approx(0, abs=1e-5) for term in terms.values())


def test_half_precision_embeddings_are_compared_in_full() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 8, generator=generator).bfloat16()
    logits, wanted = torch.randn(2, 6, 3, generator=generator).bfloat16()
    given = {
        "embeddings": student, "teacher_embeddings": teacher,
        "logits": logits, "teacher_logits": wanted,
    }  # fmt: skip
    with torch.autocast("cpu", torch.bfloat16):
        half = distillation_terms(ALL, **given)
        hints = hint_terms(1, {"a": None}, {"a": student}, {"a": teacher})
    full = distillation_terms(ALL, **{name: value.float() for name, value in given.items()})
    assert half == full
    assert hints["hint/a"] == relative_squared_error(student.float(), teacher.float())


def test_terms_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, generator=generator)
    error = sum(
        (float(a) - float(b)) ** 2
        for a, b in zip(student.flatten(), teacher.flatten(), strict=True)
    )
    scale = sum(float(b) ** 2 for b in teacher.flatten())
    assert float(relative_squared_error(student, teacher)) == pytest.approx(error / scale, rel=1e-5)
    total = 0.0
    for i in range(3):
        for j in range(3):
            a = torch.cosine_similarity(student[i], student[j], dim=0)
            b = torch.cosine_similarity(teacher[i], teacher[j], dim=0)
            total += float(a - b) ** 2
    assert float(similarity_error(student, teacher)) == pytest.approx(total / 9, rel=1e-4)


def test_weighted_terms_against_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 3, 4, generator=generator)
    logits, wanted = torch.randn(2, 3, 5, generator=generator)
    terms = distillation_terms(
        DistillationSettings(embedding=0.5, cosine=2, similarity=3, logits=0.25),
        embeddings=student, teacher_embeddings=teacher, logits=logits, teacher_logits=wanted,
    )  # fmt: skip
    cosine = divergence = 0.0
    for a, b in zip(student, teacher, strict=True):
        cosine += 1 - float(torch.dot(a, b) / (a.norm() * b.norm()))
    for row, target in zip(logits, wanted, strict=True):
        # How surprised the student is by what the teacher expects, not the other way round.
        found, expected = (values.exp() / values.exp().sum() for values in (row, target))
        for p, q in zip(expected.tolist(), found.tolist(), strict=True):
            divergence += p * log(p / q)
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(
        {
            "embedding": 0.5 * float(relative_squared_error(student, teacher)),
            "cosine": 2 * cosine / 3,
            "similarity": 3 * float(similarity_error(student, teacher)),
            "logits": 0.25 * divergence / 3,
        },
        rel=1e-4,
    )


def test_hints_look_at_the_kept_channels_only() -> None:
    teacher = torch.randn(2, 5, 3, 3)
    kept = torch.tensor([0, 3])
    terms = hint_terms(2.0, {"stage": kept}, {"stage": teacher[:, [0, 3]]}, {"stage": teacher})
    assert float(terms["hint/stage"]) == 0
    terms = hint_terms(2.0, {"stage": kept}, {"stage": 0 * teacher[:, [0, 3]]}, {"stage": teacher})
    assert float(terms["hint/stage"]) == pytest.approx(2.0)


def test_the_recorder_lets_go() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    recorder = OutputRecorder(model, ["0"])
    model(torch.ones(1, 2))
    assert recorder.outputs["0"].shape == (1, 3)
    recorder.detach()
    model(torch.ones(1, 2))
    assert recorder.outputs == {}


def test_the_teacher_learns_nothing() -> None:
    teacher = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    embeddings, logits = run_teacher(teacher, torch.randn(4, 2))
    assert not embeddings.requires_grad
    assert logits is None
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_images_at_another_size() -> None:
    images = torch.rand(2, 3, 16, 8, generator=torch.Generator().manual_seed(0))
    assert at_size(images, None) is images
    assert at_size(images, (16, 8)) is images
    smaller = at_size(images, (8, 4))
    assert smaller.shape == (2, 3, 8, 4)
    assert float(smaller.mean()) == pytest.approx(float(images.mean()), abs=0.01)
    # Antialiased: what alternates from pixel to pixel becomes its mean.
    stripes = torch.zeros(1, 3, 16, 8)
    stripes[:, :, ::2] = 1
    assert float((at_size(stripes, (4, 2)) - 0.5).abs()[:, :, 1:-1].max()) < 0.02
