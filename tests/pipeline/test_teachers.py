"""Other teachers than the full-width model: model files of any kind, and tables of embeddings."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.dependencies import stage_inputs
from pipeline.model_hash import hash_teacher
from pipeline.teacher_cache import cache_file
from pipeline.teacher_embeddings import TeacherEmbeddings, batch_neighbours
from pipeline.teachers import check_teacher_file, load_teacher, load_teacher_file, read_table
from reid_edge.core.checksums import read_checksums
from reid_edge.core.errors import CheckpointError, PipelineError, ReidError
from reid_edge.core.io import hash_file
from reid_edge.data.decoding import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.data.loaders import stack_images
from reid_edge.data.schema import ReidData, relabel
from reid_edge.inference import features
from reid_edge.inference.embedder import embed_files, load_embedder
from reid_edge.metrics import evaluate_label_free
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.models.registry import build_model
from reid_edge.training.distillation import Teacher
from reid_edge.training.file_teacher import FileTeacher
from reid_edge.training.fit import fit
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.losses import SupervisedLoss
from reid_edge.training.module import ReidModule, make_projection
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings
from tests.networks import small_networks

SIZE = (64, 32)
BY_TEACHER = TrainingSettings.model_validate(
    {
        "epochs": 2, "identities_per_batch": 4, "images_per_identity": 3, "learning_rate": 3e-3,
        "losses": {"cross_entropy": 0, "triplet": 0},
        "augmentation": {"flip": 0, "crop_padding": 0},
    }
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def networks() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model("small_net", num_classes=1, embedding_dim=24)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    save_checkpoint(path, model, describe(model, "small_net", input_size=SIZE))
    return path


def student() -> nn.Module:
    torch.manual_seed(1)
    return build_model("small_net_x0_5", num_classes=1, embedding_dim=16)


def test_a_file_gives_the_embeddings_that_it_gives_by_itself(
    teacher_file: Path, tiny_data: ReidData
) -> None:
    embedder = load_embedder(teacher_file)
    teacher = FileTeacher(embedder)
    assert teacher.dimensions == 24
    images = list(tiny_data.train[:3])
    given = teacher(stack_images(images, height=SIZE[0], width=SIZE[1]))
    expected = embed_files(embedder, [image.path for image in images])
    torch.testing.assert_close(given, torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


def test_colours_are_brought_to_what_the_file_expects(
    teacher_file: Path, tiny_data: ReidData
) -> None:
    embedder = load_embedder(teacher_file, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    images = list(tiny_data.train[:3])
    given = FileTeacher(embedder)(stack_images(images, height=SIZE[0], width=SIZE[1]))
    expected = embed_files(embedder, [image.path for image in images])
    torch.testing.assert_close(given, torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert (embedder.space.mean, embedder.space.std) != (IMAGENET_MEAN, IMAGENET_STD)


def test_a_projection_is_trained_along_and_dropped(
    teacher_file: Path, tiny_data: ReidData, tmp_path: Path
) -> None:
    model, module = student(), FileTeacher(load_embedder(teacher_file))
    teacher = Teacher(module, DistillationSettings(hints=0), dimensions=module.dimensions)
    projection = make_projection(model, teacher)
    assert projection is not None
    assert projection.weight.shape == (24, 16)
    torch.testing.assert_close(projection.weight.T @ projection.weight, torch.eye(16))
    assert make_projection(model, Teacher(module, DistillationSettings(), dimensions=16)) is None
    names = set(model.state_dict())

    def likeness() -> float:
        images = stack_images(list(tiny_data.train), height=SIZE[0], width=SIZE[1])
        with torch.no_grad():
            return evaluate_label_free(module(images), model.eval()(images)).rank_correlation

    before = likeness()
    config = FitConfig(
        tiny_data.train, BY_TEACHER, *SIZE, seed=0, folder=tmp_path, label="x", teacher=teacher
    )
    fit(model, config)
    assert set(model.state_dict()) == names
    assert likeness() > before
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert "projection.weight" in state


def test_a_table_stands_for_a_teacher(tiny_data: ReidData, tmp_path: Path) -> None:
    images = [*tiny_data.train, *tiny_data.query]
    generator = np.random.default_rng(0)
    table = generator.normal(size=(len(images), 16)).astype(np.float32)
    order = generator.permutation(len(images))
    np.save(tmp_path / "t.npy", table[order])
    names = [images[row].path.relative_to(tiny_data.root).as_posix() for row in order]
    (tmp_path / "t.txt").write_text("\n".join(names) + "\n")
    read = read_table(tmp_path / "t.npy", tiny_data.root, tiny_data.train)
    np.testing.assert_array_equal(read.numpy(), table[: len(tiny_data.train)])
    teacher = Teacher(nn.Identity(), DistillationSettings(hints=0), table=read)
    module = ReidModule(student(), BY_TEACHER, steps_per_epoch=1, teacher=teacher)
    batch = stack_images(list(tiny_data.train[:4]), height=SIZE[0], width=SIZE[1])
    module.model.train()
    terms = module._terms(batch, torch.tensor([2, 0, 1, 3]))
    _, embeddings = module.model(batch)
    cosines = torch.cosine_similarity(embeddings, read[[2, 0, 1, 3]])
    assert float(terms["cosine"].detach()) == pytest.approx(
        5 * (1 - float(cosines.detach().mean())), rel=1e-3
    )


def test_a_table_goes_with_losses_of_identities(tiny_data: ReidData, tmp_path: Path) -> None:
    images, places = tiny_data.train, [2, 30, 11, 7]
    table = torch.randn(len(images), 16, generator=torch.Generator().manual_seed(0))
    teacher = Teacher(nn.Identity(), DistillationSettings(hints=0), table=table)
    settings = BY_TEACHER.model_copy(update={"losses": LossSettings(), "epochs": 1})
    classes = torch.tensor(relabel(images))
    torch.manual_seed(1)
    model = build_model("small_net_x0_5", num_classes=8, embedding_dim=16)
    module = ReidModule(model, settings, steps_per_epoch=1, teacher=teacher, classes=classes)
    model.train()
    batch = stack_images([images[place] for place in places], height=SIZE[0], width=SIZE[1])
    terms = module._terms(batch, torch.tensor(places))
    logits, embeddings = model(batch)
    expected = SupervisedLoss(settings.losses)(logits, embeddings, classes[places])
    assert {"cross_entropy", "triplet"} <= set(expected) < set(terms)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    config = FitConfig(images, settings, *SIZE, seed=0, folder=tmp_path, label="x", teacher=teacher)
    fit(model, config)
    assert (tmp_path / "last.ckpt").is_file()


def test_cached_embeddings_are_those_of_the_images_as_they_are(
    tiny_data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = build_model("small_net", num_classes=8, embedding_dim=16).eval()
    path = tmp_path / "checkpoint.pt"
    info = describe(model, "small_net", input_size=SIZE)
    save_checkpoint(path, model, info)
    config = config_class().model_validate({"teacher": {"cached": True}, "data": {"workers": 0}})
    context: StageContext[Any] = StageContext(
        "finetune", config, config.of(config.declared["finetune"]), tmp_path / "finetune",
        tiny_data, None, path, "", SIZE,
    )  # fmt: skip
    weights = DistillationSettings(cosine=5, hints=1, logits=1)
    teacher = load_teacher(context, weights)
    assert teacher is not None
    assert teacher.table is not None
    images = stack_images(list(tiny_data.train), height=SIZE[0], width=SIZE[1])
    with torch.no_grad():
        torch.testing.assert_close(teacher.table, model(images), rtol=1e-4, atol=1e-5)
    # A table has neither layers nor classes.
    assert (teacher.settings.hints, teacher.settings.logits, teacher.settings.cosine) == (0, 0, 5)
    # Each image is embedded once a stage, and once for all stages.
    with monkeypatch.context() as patch:
        patch.setattr(features, "embed_images", None)
        for one in (context, replace(context, teacher_embeddings=TeacherEmbeddings())):
            again = load_teacher(one, weights)
            assert again is not None
            assert torch.equal(again.table, teacher.table)  # type: ignore[arg-type]
    # What is damaged, or of another image, is not used.
    (kept,) = (tmp_path / "teacher_embeddings").glob("*.npy")
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = load_teacher(replace(context, teacher_embeddings=TeacherEmbeddings()), weights)
    assert again is not None
    assert torch.equal(again.table, teacher.table)  # type: ignore[arg-type]
    assert kept.read_bytes() == content
    fewer = replace(tiny_data, train=tiny_data.train[1:])
    assert load_teacher(
        replace(context, data=fewer, teacher_embeddings=TeacherEmbeddings()), weights
    )
    assert len(list(kept.parent.glob("*.npy"))) == 2
    # Those of another teacher are others, and the oldest go.
    for _ in range(3):
        save_checkpoint(path, build_model("small_net", num_classes=8, embedding_dim=16), info)
        assert load_teacher(replace(context, teacher_embeddings=TeacherEmbeddings()), weights)
    assert len({one.name[:24] for one in kept.parent.glob("*.npy")}) == 4
    assert not kept.exists()
    assert set(read_checksums(kept.parent)) == {one.name for one in kept.parent.glob("*.npy")}


def test_kept_embeddings_are_those_of_an_images_file(tiny_data: ReidData, tmp_path: Path) -> None:
    config, copy = config_class()(), tmp_path / "image.jpg"
    shutil.copy(tiny_data.train[0].path, copy)
    context: StageContext[Any] = StageContext(
        "finetune", config, config.of(config.declared["finetune"]), tmp_path / "finetune",
        tiny_data, None, copy, "", SIZE,
    )  # fmt: skip
    image = replace(tiny_data.train[0], path=copy)
    before = cache_file(context, copy, [image])
    assert before == cache_file(context, copy, [image])
    assert before != cache_file(context, copy, [image, image])
    os.utime(copy, ns=(1, 1))
    assert before != cache_file(context, copy, [image])
    other_batch = config_class().model_validate({"data": {"evaluation_batch": 3}})
    assert cache_file(replace(context, config=other_batch), copy, []) != cache_file(
        context, copy, []
    )
    copy.unlink()
    with pytest.raises(PipelineError, match=r"image.jpg: cannot be read \(No such file"):
        cache_file(context, tiny_data.train[1].path, [image])
    with pytest.raises(
        PipelineError, match=r"image.jpg: no such file; the teacher is read from it"
    ):
        cache_file(context, copy, [])


def test_which_images_are_neighbours(
    teacher_file: Path, tiny_data: ReidData, tmp_path: Path
) -> None:
    config = config_class()()
    for labels, groups, images, drawn_by in (
        ("persons", 4, 3, None), ("persons", 4, 1, None),
        ("none", 4, 3, 6), ("none", 4, 1, 0),
        ("tracks", 4, 3, None), ("tracks", 4, 1, 0), ("tracks", 400, 3, 6),
    ):  # fmt: skip
        context: StageContext[Any] = StageContext(
            "finetune", config, config.of(config.declared["finetune"]), tmp_path / "finetune",
            replace(tiny_data, labels=labels), None, teacher_file, "", SIZE,
        )  # fmt: skip
        found = batch_neighbours(context, tiny_data.train, groups, images)
        if drawn_by is None:
            assert found is None
        else:
            assert found is not None
            assert found.shape == (len(tiny_data.train), drawn_by)


def test_a_teacher_of_two_forms_is_refused_with_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(build_model("resnet18", num_classes=3).state_dict(), path)
    config = config_class().model_validate({"teacher": {"file": path}})
    with pytest.raises(CheckpointError, match=r"last stride .* in a run this is teacher\.arch"):
        load_teacher_file(config)
    named = config_class().model_validate({"teacher": {"file": path, "architecture": "resnet18"}})
    assert "resnet18" in load_teacher_file(named).description


def test_weights_beside_a_teacher_are_a_part_of_it(tmp_path: Path) -> None:
    graph, weights = tmp_path / "large.xml", tmp_path / "large.bin"
    graph.write_text("<net/>")
    alone = hash_teacher(graph)
    assert alone == hash_file(graph)
    hashes = {alone}
    for content in (b"1", b"2"):
        weights.write_bytes(content)
        hashes.add(hash_teacher(graph))
    assert len(hashes) == 3

    tensor = numpy_helper.from_array(np.zeros(64, np.float32), "weights")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    file, beside = tmp_path / "large.onnx", tmp_path / "large.data"
    onnx.save_model(model, file, save_as_external_data=True, location=beside.name, size_threshold=0)
    before = hash_teacher(file)
    beside.write_bytes(b"1" * beside.stat().st_size)
    assert hash_teacher(file) != before
    beside.unlink()
    with pytest.raises(CheckpointError, match=r"large.data: no such file; large.onnx has its wei"):
        hash_teacher(file)


def test_a_folder_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r": is no file; the teacher is read from it$"):
        hash_teacher(tmp_path)


def test_a_cached_teacher_is_another_input_and_none_leaves_earlier_runs_as_they_are() -> None:
    for cached in (False, True):
        config = config_class().model_validate({"teacher": {"cached": cached}})
        inputs = {
            name: stage_inputs(config, config.declared[name], data_hash="d", parent=None, made={})
            for name in ("train", "finetune")
        }
        assert "teacher.cached" not in inputs["train"]
        assert ("teacher.cached" in inputs["finetune"]) == cached


@pytest.mark.parametrize(
    ("table", "names", "message"),
    [
        (np.zeros((2, 4)), None, "cannot be read as a table of embeddings with names in t.txt"),
        (np.zeros((2, 4)), "a\n", r"has shape \(2, 4\), and t.txt 1 lines; expected"),
        (np.zeros(2), "a\nb\n", "expected numbers"),
        (np.array([["x"], ["y"]]), "a\nb\n", "expected numbers"),
        (np.array([[{}], [1]], dtype=object), "a\nb\n", "cannot be read as a table"),
        (np.zeros((2, 4)), "a\nb\n", "does not name bounding_box_train/"),
        (np.zeros((2, 0)), "a\nb\n", r"has shape \(2, 0\), and"),
        (np.zeros((3, 4)), "a\nb\na\n", "t.txt: names a twice; expected it once"),
    ],
)
def test_what_is_no_table(
    table: np.ndarray, names: str | None, message: str, tiny_data: ReidData, tmp_path: Path
) -> None:
    np.save(tmp_path / "t.npy", table)
    if names is not None:
        (tmp_path / "t.txt").write_text(names)
    with pytest.raises(CheckpointError, match=message):
        read_table(tmp_path / "t.npy", tiny_data.root, tiny_data.train)


def test_an_embedding_that_is_not_finite(tiny_data: ReidData, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.full((1, 4), np.nan))
    first = tiny_data.train[0]
    (tmp_path / "t.txt").write_text(first.path.relative_to(tiny_data.root).as_posix())
    with pytest.raises(CheckpointError, match="has embeddings that are not finite"):
        read_table(tmp_path / "t.npy", tiny_data.root, [first])


def named_table(path: Path, table: np.ndarray, data: ReidData) -> Path:
    np.save(path, table)
    names = [image.path.relative_to(data.root).as_posix() for image in data.train]
    # Some editors begin a text file with a mark of its byte order.
    path.with_suffix(".txt").write_text("\n".join(names), encoding="utf-8-sig")
    return path


@pytest.mark.filterwarnings("error")
def test_an_embedding_that_is_zero_or_too_large(tiny_data: ReidData, tmp_path: Path) -> None:
    where = (tiny_data.root, tiny_data.train)
    table = np.random.default_rng(0).normal(size=(len(tiny_data.train), 4))
    assert len(read_table(named_table(tmp_path / "t.npy", table, tiny_data), *where))
    third = tiny_data.train[2].path.name
    table[2] = 0
    with pytest.raises(CheckpointError, match=rf"the embedding of .*{third} is zero in all"):
        read_table(named_table(tmp_path / "t.npy", table, tiny_data), *where)
    table[2] = 1e300
    with pytest.raises(CheckpointError, match="are not finite"):
        read_table(named_table(tmp_path / "t.npy", table, tiny_data), *where)


def test_a_teacher_is_tried_on_images_before_a_run(tiny_data: ReidData, tmp_path: Path) -> None:
    class Classes(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((1, 2, 3))

    classes = tmp_path / "classes.pt"
    torch.jit.save(torch.jit.trace(Classes(), torch.zeros(2, 3, *SIZE)), classes)
    flat = named_table(tmp_path / "t.npy", np.ones((len(tiny_data.train), 4)), tiny_data)
    for file, words in (
        (classes, "for 8 images; expected one embedding"),
        (flat, "nearly the same embedding for all"),
    ):
        config = config_class().model_validate({"teacher": {"file": file}})
        with pytest.raises(ReidError, match=words):
            check_teacher_file(config, tiny_data)
    np.save(flat, np.eye(len(tiny_data.train)))
    check_teacher_file(config, tiny_data)
