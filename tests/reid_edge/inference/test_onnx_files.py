"""ONNX files: what is read off them, what is made of a fixed batch, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from reid_edge.core.errors import CheckpointError, ModelError, ReidError
from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import embed_files, load_embedder

METADATA = {"architecture": "brightness", "input_size": "[64, 32]"}
FLOAT = onnx.TensorProto.FLOAT


def save_brightness(
    path: Path, shape: Sequence[int | str], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a model whose embedding of an image is the mean of each colour."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", FLOAT, list(shape))
    made = helper.make_tensor_value_info("output", FLOAT, [shape[0], 3])
    graph = helper.make_graph(nodes, "brightness", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    return path


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 64, 32), dtype=np.float32)


def test_metadata_in_the_file(tmp_path: Path, tiny_data: ReidData) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32], METADATA)
    embedder = load_embedder(path)
    assert (embedder.space.input_size, embedder.description) == ((64, 32), "brightness, ONNX")
    batch = random_images(3)
    assert np.allclose(embedder.embed(batch), batch.mean((2, 3)), atol=1e-6)
    embeddings = embed_files(embedder, [image.path for image in tiny_data.query])
    assert embeddings.shape == (len(tiny_data.query), 3)


@pytest.mark.parametrize("name", ["model.json", "model.onnx.json"])
def test_metadata_beside_the_file(tmp_path: Path, name: str) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, "height", "width"])
    assert load_embedder(path).space.input_size == (256, 128)
    beside = path.with_name(name)
    beside.write_text(json.dumps({"architecture": "x", "input_size": [96, 48]}))
    assert load_embedder(path).space.input_size == (96, 48)
    beside.write_text("[")
    with pytest.raises(CheckpointError, match="not a readable JSON object"):
        load_embedder(path)


def test_sizes_that_the_graph_fixes(tmp_path: Path) -> None:
    embedder = load_embedder(save_brightness(tmp_path / "model.onnx", [2, 3, 64, 32]))
    assert embedder.space.input_size == (64, 32)
    batch = random_images(5)
    assert np.allclose(embedder.embed(batch), batch.mean((2, 3)), atol=1e-6)


def test_images_of_another_size(tmp_path: Path) -> None:
    embedder = load_embedder(save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32]))
    with pytest.raises(ModelError, match=r"model.onnx: .* images of 32x32; it takes 64x32"):
        embedder.embed(np.zeros((1, 3, 32, 32), np.float32))


def test_a_model_that_does_not_take_images(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("input", FLOAT, ["batch", 10])
    made = helper.make_tensor_value_info("output", FLOAT, ["batch", 10])
    node = helper.make_node("Identity", ["input"], ["output"])
    graph = helper.make_graph([node], "identity", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=r"has shape \['batch', 10\], not \(N, 3, H, W\)"):
        load_embedder(tmp_path / "model.onnx")


def test_a_damaged_file(tmp_path: Path) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32], METADATA)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="not a readable ONNX file"):
        load_embedder(path)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    path = save_scaled(tmp_path / "one" / "model.onnx", 1.0)
    path.with_name("model.onnx.data").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"model\.onnx\.data: no such file; model\.onnx has its weights in it: copy both$",
    ):
        load_embedder(path)


def test_weights_in_another_folder(tmp_path: Path) -> None:
    path = save_scaled(tmp_path / "one" / "model.onnx", 1.0)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../secret"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "secret").write_bytes(b"0" * 12)
    with pytest.raises(CheckpointError, match=r"its weights are in '\.\./secret', outside of its"):
        load_embedder(path)


def save_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Sequence[int | str] | None]],
    outputs: Sequence[tuple[str, int, Sequence[int | str] | None]],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    given, made = (
        [helper.make_tensor_value_info(*each) for each in values] for values in (inputs, outputs)
    )
    graph = helper.make_graph(list(nodes), "graph", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    path.write_bytes(model.SerializeToString())
    return path


POOL = (
    helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["output"]),
)
TYPES = onnx.TensorProto
SHAPE = ("batch", 3, 64, 32)
EMBEDDING = ("output", FLOAT, ("batch", 3))


def test_float16(tmp_path: Path) -> None:
    half = save_graph(
        tmp_path / "half.onnx",
        POOL,
        [("input", TYPES.FLOAT16, SHAPE)],
        [("output", TYPES.FLOAT16, ("batch", 3))],
    )
    mixed = save_graph(
        tmp_path / "mixed.onnx",
        (*POOL[:1], helper.make_node("Flatten", ["pooled"], ["flat"]),
         helper.make_node("Cast", ["flat"], ["output"], to=TYPES.FLOAT16)),
        [("input", FLOAT, SHAPE)],
        [("output", TYPES.FLOAT16, ("batch", 3))],
    )  # fmt: skip
    batch = random_images(3)
    for path in (half, mixed):
        embeddings = load_embedder(path).embed(batch)
        assert embeddings.dtype == np.float32
        assert np.allclose(embeddings, batch.mean((2, 3)), atol=1e-3)


@pytest.mark.parametrize(
    ("inputs", "nodes", "outputs", "problem"),
    [
        (
            [("input", TYPES.UINT8, SHAPE)],
            [helper.make_node("Cast", ["input"], ["cast"], to=FLOAT),
             helper.make_node("GlobalAveragePool", ["cast"], ["pooled"]), POOL[1]],
            [EMBEDDING],
            "its input is tensor(uint8); expected normalised images as float: export the model "
            "again without the normalisation in it",
        ),
        (
            [("input", FLOAT, SHAPE), ("camera", TYPES.INT64, ("batch",))],
            [*POOL, helper.make_node("Identity", ["camera"], ["other"])],
            [EMBEDDING, ("other", TYPES.INT64, ("batch",))],
            "takes 2 inputs (input, camera); expected images alone",
        ),
        (
            [("input", FLOAT, ("batch", 64, 32, 3))],
            [helper.make_node("ReduceMean", ["input"], ["output"], axes=[1, 2], keepdims=0)],
            [EMBEDDING],
            "its input has shape ['batch', 64, 32, 3], channels last; expected (N, 3, H, W)",
        ),
        (
            [("input", FLOAT, ("batch", 1, 64, 32))],
            POOL,
            [("output", FLOAT, ("batch", 1))],
            "its input has 1 channels; expected 3, (N, 3, H, W)",
        ),
        (
            [("input", FLOAT, (0, 3, 64, 32))],
            POOL,
            [("output", FLOAT, (0, 3))],
            "its input has shape [0, 3, 64, 32], a batch of 0; expected 1 or more",
        ),
        (
            [],
            [helper.make_node("Constant", [], ["output"], value_floats=[1.0, 2.0])],
            [("output", FLOAT, (2,))],
            "takes no input; expected images (N, 3, H, W)",
        ),
        (
            [("input", FLOAT, SHAPE)],
            [*POOL[:1], helper.make_node("Cast", ["pooled"], ["output"], to=TYPES.STRING)],
            [("output", TYPES.STRING, ("batch", 3, 1, 1))],
            "its output is tensor(string); expected embeddings, numbers with a fraction",
        ),
    ],
    ids=["uint8", "two-inputs", "channels-last", "grey", "batch-0", "no-input", "strings"],
)  # fmt: skip
def test_what_is_no_embedding_of_images(
    tmp_path: Path,
    inputs: Sequence[tuple[str, int, Sequence[int | str]]],
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[tuple[str, int, Sequence[int | str]]],
    problem: str,
) -> None:
    path = save_graph(tmp_path / "model.onnx", nodes, inputs, outputs)
    with pytest.raises(CheckpointError) as error:
        load_embedder(path)
    assert str(error.value) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([helper.make_node("ReduceMean", ["input"], ["output"], axes=[1, 2, 3], keepdims=0)], (3,)),
        ([helper.make_node("ReduceMean", ["input"], ["output"], axes=[3], keepdims=0)], (3, 3, 64)),
        ([helper.make_node("GlobalAveragePool", ["input"], ["output"])], (3, 3, 1, 1)),
        ([helper.make_node("ReduceMean", ["input"], ["output"], keepdims=0)], ()),
    ],
)
@pytest.mark.parametrize("batch", ["batch", 3])
def test_output_of_another_rank(
    tmp_path: Path, nodes: Sequence[onnx.NodeProto], shape: tuple[int, ...], batch: int | str
) -> None:
    made = [("output", FLOAT, [f"side{place}" for place in range(len(shape))])]
    path = save_graph(tmp_path / "model.onnx", nodes, [("input", FLOAT, (batch, 3, 64, 32))], made)
    with pytest.raises(ModelError) as error:
        load_embedder(path).embed(random_images(3))
    assert (
        str(error.value) == f"{path}: gives {shape} for 3 images; expected one embedding for each"
    )


def test_dynamic_axes_everywhere(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        POOL,
        [("input", FLOAT, ("n", "c", "h", "w"))],
        [("output", FLOAT, ("n", "d"))],
    )
    assert load_embedder(path).space.input_size == (256, 128)
    batch = random_images(2)
    assert np.allclose(load_embedder(path).embed(batch), batch.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize(
    "metadata",
    [
        {"input_size": "[Infinity, 32]"},
        {"input_size": "[64, NaN]"},
        {"mean": "[Infinity, 0, 0]", "architecture": "x"},
        {"std": "[NaN, 1, 1]", "architecture": "x"},
        {"threshold": "-Infinity", "architecture": "x"},
        {"mean": "[" * 100_000, "architecture": "x"},
    ],
)
def test_metadata_that_is_no_number(tmp_path: Path, metadata: Mapping[str, str]) -> None:
    path = save_brightness(tmp_path / "model.onnx", SHAPE, metadata)
    with pytest.raises(CheckpointError, match=r"model\.onnx: damaged metadata \(.*; export the"):
        load_embedder(path)


def loop_forever() -> onnx.NodeProto:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]),
         helper.make_node("Identity", ["value"], ["next"])],
        "body",
        [info("turn", TYPES.INT64, []), info("going", TYPES.BOOL, []), info("value", FLOAT, None)],
        [info("goes_on", TYPES.BOOL, []), info("next", FLOAT, None)],
    )  # fmt: skip
    return helper.make_node("Loop", ["", "true", "flat"], ["output"], body=body)


@pytest.mark.parametrize("inside", [False, True])
def test_an_endless_loop(tmp_path: Path, inside: bool) -> None:
    true = helper.make_node("Constant", [], ["true"], value=numpy_helper.from_array(np.array(True)))
    flat = helper.make_node("Flatten", ["pooled"], ["flat"])
    looping: list[onnx.NodeProto] = [true, loop_forever()]
    if inside:  # in a branch
        branch = helper.make_graph(
            looping, "branch", [], [helper.make_tensor_value_info("output", FLOAT, None)]
        )
        looping = [true, helper.make_node("If", ["true"], ["output"], then_branch=branch,
                                          else_branch=branch)]  # fmt: skip
    path = save_graph(
        tmp_path / "model.onnx", [POOL[0], flat, *looping], [("input", FLOAT, SHAPE)], [EMBEDDING]
    )
    with pytest.raises(CheckpointError, match="not loaded, it has the operator Loop, which may ru"):
        load_embedder(path)


def test_flipped_bits_are_one_line(tmp_path: Path) -> None:
    path = save_brightness(tmp_path / "model.onnx", SHAPE, METADATA)
    content, messages = path.read_bytes(), []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            load_embedder(path).embed(random_images(1))
        except ReidError as error:
            messages.append(str(error))
    assert messages
    assert not [message for message in messages if "\n" in message]


def save_scaled(path: Path, scale: float) -> Path:
    """Write a model whose weights, one number for each colour, lie in a file beside it."""
    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), scale, np.float32), "scale")
    nodes = [
        helper.make_node("Mul", ["input", "scale"], ["scaled"]),
        helper.make_node("GlobalAveragePool", ["scaled"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", FLOAT, ["batch", 3, 64, 32])
    made = helper.make_tensor_value_info("output", FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "scaled", [given], [made], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    return path


def test_weights_beside_the_file_are_part_of_the_model(tmp_path: Path) -> None:
    one, same, other = (
        save_scaled(tmp_path / name / "model.onnx", scale)
        for name, scale in (("one", 1.0), ("same", 1.0), ("other", 2.0))
    )
    assert one.read_bytes() == other.read_bytes()
    space = load_embedder(one).space
    assert space.difference(load_embedder(same).space) is None
    assert space.difference(load_embedder(other).space) == "another model file"


def test_notes_beside_the_file_are_part_of_the_model(tmp_path: Path) -> None:
    path = save_brightness(tmp_path / "model.onnx", ["batch", 3, 64, 32])
    spaces = []
    for notes in (
        {},
        {"colour_order": "BGR"},
        {"mean": [0.5, 0.5, 0.5]},
        {"architecture": "brightness"},
    ):
        path.with_suffix(".json").write_text(json.dumps(notes))
        spaces.append(load_embedder(path).space)
    assert [spaces[0].difference(space) for space in spaces] == [
        None,
        "colours as BGR, not RGB",
        "other mean or std of the colours",
        "another architecture (brightness, not unnamed)",
    ]
