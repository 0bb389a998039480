"""``reid-edge verify | enrol | identify``: from images to decisions and names."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from reid_edge.cli.main import main
from reid_edge.data.schema import ReidData


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def weights(checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("REID_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(checkpoint_file, tmp_path / "model.pt"))


@pytest.fixture
def images(tiny_data: ReidData) -> tuple[Path, Path]:
    first = tiny_data.query[0]
    other = next(p for p in tiny_data.gallery if p.person not in (0, first.person))
    return first.path, other.path


def test_verify_with_the_stored_threshold(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    images: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = ("--img1", images[0], "--img2", images[0])
    code, out, err = run(capsys, "verify", *pair, "--weights", weights)
    assert (code, out) == (2, "")
    assert err == (
        f"error: {weights}: no threshold is stored with it; measure one with: reid-edge "
        "evaluate ... --store-threshold 1e-3; or give --threshold\n"
    )
    main(["evaluate", "--weights", str(weights), "--data", str(tiny_market),
          "--store-threshold", "0.05"])  # fmt: skip
    capsys.readouterr()
    monkeypatch.setenv("REID_WEIGHTS", str(weights))
    code, out, _ = run(capsys, "verify", *pair)
    assert code == 0
    assert out.startswith("similarity 1.0000, threshold ")
    assert out.endswith(f"(FAR 0.05 on {tiny_market.name}): same person\n")
    code, _, err = run(capsys, "verify", *pair, "--input-size", "96x48")
    assert code == 2
    assert "was measured with images of 64x32, not of 96x48; measure one" in err
    code, _, err = run(capsys, "verify", *pair, "--flip")
    assert code == 2
    assert "was measured with flip averaging off" in err


def test_verify_with_a_threshold(
    capsys: pytest.CaptureFixture[str], weights: Path, images: tuple[Path, Path]
) -> None:
    pair = ("--img1", images[0], "--img2", images[1], "--weights", weights)
    code, out, _ = run(capsys, "verify", *pair, "--threshold", "1")
    assert code == 0
    assert out.endswith("threshold 1.0000 (--threshold): different persons\n")
    code, out, err = run(capsys, "verify", *pair, "--threshold", "-1", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record.pop("similarity") < 1
    assert record == {"threshold": -1.0, "same_person": True, "threshold_from": "--threshold"}
    code, _, err = run(capsys, "verify", *pair, "--threshold", "25")
    assert (code, err) == (2, "error: --threshold 25: a cosine similarity is between -1 and 1\n")


def test_enrol_and_identify(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    tiny_data: ReidData,
    tmp_path: Path,
) -> None:
    gallery = tiny_market / "bounding_box_test"
    enrolment = ("enrol", "--gallery-dir", gallery, "--index", "my index", "--weights", weights)
    code, out, _ = run(capsys, *enrolment)
    enrolled = sum(image.person > 0 for image in tiny_data.gallery)
    assert code == 0
    assert out == (
        f"my index: {enrolled} images enrolled, 0 were there already; "
        f"now {enrolled} images of 4 persons, flat index\n"
    )
    code, out, _ = run(capsys, *enrolment, "--json")
    assert json.loads(out) == {
        "added": 0, "known": enrolled, "images": enrolled, "persons": 4, "kind": "flat",
        "index": "my index",
    }  # fmt: skip

    known = next(image for image in tiny_data.gallery if image.person > 0)
    name = known.path.name.partition("_")[0]
    question = ("identify", "--index", "my index", "--threshold", "0.9999", "--query")
    code, out, _ = run(capsys, *question, known.path, "--top", 2)
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == ["threshold 0.9999 (--threshold)", f"{known.path}: {name}"]
    assert lines[2] == f"  1. {name}  1.0000  {known.path.name}"
    assert len(lines) == 4

    code, out, err = run(capsys, *question, tiny_market / "query", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert len(record["results"]) == len(tiny_data.query)
    assert {result["person"] for result in record["results"]} == {None}
    assert len(record["results"][0]["candidates"]) == 4
    assert ": unknown\n" in run(capsys, *question, tiny_market / "query")[1]


def test_identify_without_a_threshold_names_nobody(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    images: tuple[Path, Path],
) -> None:
    run(capsys, "enrol", "--gallery-dir", tiny_market / "bounding_box_test", "--weights", weights)
    code, out, err = run(capsys, "identify", "--query", images[0], "--top", 3)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [
        f"no decision: {weights}: no threshold is stored with it; measure one with: reid-edge "
        "evaluate ... --store-threshold 1e-3; or give --threshold",
        f"{images[0]}: no decision",
    ]
    assert [line[:5] for line in lines[2:]] == ["  1. ", "  2. ", "  3. "]
    code, out, err = run(capsys, "identify", "--query", images[0], "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert (record["threshold"], record["threshold_from"]) == (None, None)
    assert record["results"][0]["person"] is None
    assert len(record["results"][0]["candidates"]) == 4
    # One that is there and cannot be used is no reason to go without.
    weights.with_name("model.pt.threshold.json").write_text("{}")
    code, out, err = run(capsys, "identify", "--query", images[0])
    assert (code, out) == (2, "")
    assert "model.pt.threshold.json: damaged, or of an earlier version; measure one with" in err


def test_names_that_are_not_utf_8(
    capsys: pytest.CaptureFixture[str], weights: Path, images: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "people" / os.fsdecode(b"J\xf6rg")
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    image = shutil.copy(images[0], folder / "1.jpg")
    code, _, _ = run(capsys, "enrol", "--gallery-dir", "people", "--weights", weights)
    assert code == 0
    code, out, err = run(capsys, "identify", "--query", image, "--threshold", "0.9")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [
        f"{tmp_path}/people/J\\udcf6rg/1.jpg: J\\udcf6rg",
        "  1. J\\udcf6rg  1.0000  J\\udcf6rg/1.jpg",
    ]
    code, _, err = run(capsys, "identify", "--query", folder / "2.jpg", "--threshold", "0.9")
    assert (code, "J\\udcf6rg/2.jpg: no such image or folder" in err) == (2, True)


def test_a_broken_image_takes_one_line_in_any_process(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_market: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_market / "query", tmp_path / "people")
    broken = sorted((tmp_path / "people").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:400])
    results = [
        run(capsys, "enrol", "--gallery-dir", "people", "--weights", weights, "--workers", workers)
        for workers in (0, 1)
    ]
    assert results[0] == results[1]
    code, out, err = results[1]
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: people/{broken.name}: cannot be decoded (")


def test_index_of_another_model(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    images: tuple[Path, Path],
) -> None:
    gallery = tiny_market / "bounding_box_test"
    run(capsys, "enrol", "--gallery-dir", gallery, "--weights", weights)
    for arguments in (("enrol", "--gallery-dir", gallery), ("identify", "--query", images[0])):
        code, out, err = run(capsys, *arguments, "--weights", weights, "--input-size", "96x48")
        assert (code, out) == (2, "")
        assert err == (
            "error: gallery_index: the index was made with images of 64x32, not of 96x48, which "
            "cannot be compared; take the same, or enrol again into another folder\n"
        )
    weights.unlink()
    code, _, err = run(capsys, "identify", "--query", images[0])
    assert (code, err) == (2, f"error: {weights}: no such file; give the path of a model file\n")


def test_the_model_of_the_index(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    images: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gallery = ("--gallery-dir", tiny_market / "bounding_box_test")
    run(capsys, "enrol", *gallery, "--weights", weights, "--input-size", "96x48", "--flip")
    question = ("identify", "--query", images[0], "--threshold", 0)
    code, out, err = run(capsys, *question)
    assert (code, err) == (0, "")
    named = run(capsys, *question, "--weights", weights, "--input-size", "96x48", "--flip")
    assert named == (0, out, "")
    code, _, err = run(capsys, *question, "--input-size", "64x32")
    assert code == 2
    assert "made with images of 96x48, not of 64x32" in err
    code, out, _ = run(capsys, "enrol", "--gallery-dir", tiny_market / "query")
    assert (code, "images enrolled" in out) == (0, True)
    monkeypatch.setenv("REID_WEIGHTS", "another.pt")
    assert run(capsys, *question)[0] == 0
    assert run(capsys, "enrol", "--gallery-dir", tiny_market / "query")[0] == 0


def test_the_architecture_of_the_index(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    images: tuple[Path, Path],
) -> None:
    # As another program keeps them: neither the file nor its name says the architecture.
    torch.save(torch.load(weights, weights_only=True)["state_dict"], weights)
    gallery = ("--gallery-dir", tiny_market / "query", "--input-size", "64x32")
    run(capsys, "enrol", *gallery, "--weights", weights, "--architecture", "small_net")
    code, _, _ = run(capsys, "identify", "--query", images[0], "--threshold", 0)
    assert code == 0


def test_no_index(
    capsys: pytest.CaptureFixture[str], weights: Path, images: tuple[Path, Path], tmp_path: Path
) -> None:
    code, _, err = run(capsys, "identify", "--query", images[0])
    assert code == 2
    assert err.startswith("error: gallery_index: no such folder; make an index with: reid-edge")
    code, _, err = run(capsys, "identify", "--query", images[0], "--index", tmp_path)
    assert code == 2
    assert "no index in it; make an index with: reid-edge enrol --gallery-dir D --index" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["enrol", "--gallery-dir", "nowhere"], "error: nowhere: no such folder\n"),
        (["enrol", "--gallery-dir", "model.pt"], "error: model.pt: is a file; expected a folder\n"),
        (["enrol", "--gallery-dir", "{g}", "--kind", "x"], "error: unknown index kind 'x'; choose"),
        (["enrol", "--gallery-dir", "{g}", "--kind", "ivf"], "error: an ivf index is trained on"),
        (
            ["verify", "--img1", "a.jpg", "--img2", "b.jpg", "--threshold", "0"],
            "error: a.jpg: no such image\n",
        ),
        (
            ["verify", "--img1", ".", "--img2", "b.jpg", "--threshold", "0"],
            "error: .: is a folder; expected an image\n",
        ),
        (
            ["identify", "--query", "a.jpg", "--top", "0"],
            "error: the top 0 are asked for; expected 1 or more\n",
        ),
    ],
)
def test_bad_input_takes_one_line(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    paint: object,
    arguments: list[str],
    message: str,
) -> None:
    filled = [text.format(g=tiny_market / "query") for text in arguments]
    code, out, err = run(capsys, *filled, "--weights", weights)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert not Path("gallery_index").exists()


def test_identify_without_an_index(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_data: ReidData, tmp_path: Path
) -> None:
    """One command gives what `enrol` and `identify` give, and leaves nothing unless it is asked."""
    for image in tiny_data.gallery:
        if image.person > 0:
            folder = tmp_path / "people" / f"person {image.person}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image.path, folder)
    query = ("--query", tiny_data.query[0].path, "--json")
    gallery = ("--gallery-dir", tmp_path / "people", "--weights", weights)
    before = set(tmp_path.iterdir())
    code, alone, err = run(capsys, "identify", *gallery, *query)
    assert (code, set(tmp_path.iterdir())) == (0, before)
    assert len(json.loads(alone)["results"][0]["candidates"]) == 4
    code, kept, _ = run(capsys, "identify", *gallery, *query, "--index", tmp_path / "index")
    assert (code, kept) == (0, alone)
    # The index is there for the next call, with and without the folder.
    for options in (("--index", tmp_path / "index"), (*gallery, "--index", tmp_path / "index")):
        assert run(capsys, "identify", *options, *query)[:2] == (0, alone)
    code, _, err = run(capsys, "identify", *gallery[:2], *query)
    assert (code, err.startswith("error: no model is named: give --weights FILE")) == (2, True)
    (tmp_path / "nobody").mkdir()
    code, _, err = run(
        capsys, "identify", "--gallery-dir", tmp_path / "nobody", *gallery[2:], *query
    )
    assert (code, err) == (2, f"error: {tmp_path / 'nobody'}: no images of anybody in it\n")
    assert not (tmp_path / "gallery_index").exists()
