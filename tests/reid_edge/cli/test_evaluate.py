"""``reid-edge evaluate``: what it prints, writes, stores and refuses."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reid_edge.cli.main import main
from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import load_embedder
from reid_edge.inference.thresholds import read_threshold
from reid_edge.models.checkpoint import load_checkpoint
from tests.plain_lines import is_plain

pytestmark = pytest.mark.medium


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["evaluate", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def weights(checkpoint_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(checkpoint_file, tmp_path / "model.pt"))


def test_tables(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    weights: Path,
    tiny_market: Path,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = run(capsys, "--weights", weights, "--data", tiny_market)
    assert (code, err) == (0, "")
    assert f"{weights}: small_net, checkpoint, 64x32\n" in out
    assert f"{tiny_market}: read as market1501\n" in out
    for text in ("protocol market1501", "mAP", "mINP", "rank-20", "euclidean", "EER", "FAR 0.1 "):
        assert text in out
    assert "re-ranked" not in out
    assert is_plain(out)


def test_json_and_files(
    capsys: pytest.CaptureFixture[str],
    weights: Path,
    tiny_market: Path,
    tiny_data: ReidData,
    tmp_path: Path,
) -> None:
    out_folder = tmp_path / "out"
    code, out, _ = run(
        capsys, "--weights", weights, "--data", tiny_market, "--re-rank", "--flip", "--json",
        "--output", out_folder, "--protocol", "single_gallery_shot", "--batch-size", 5,
    )  # fmt: skip
    assert code == 0
    record = json.loads(out)
    assert record == json.loads((out_folder / "metrics.json").read_text())
    assert (record["model"]["input_size"], record["model"]["flip_averaging"]) == ([64, 32], True)
    assert record["gallery_images"] == len(tiny_data.gallery)
    assert (record["data"]["format"], record["data"]["split"]) == ("market1501", None)
    assert record["has_cameras"] is True
    for part in ("ranking", "re_ranked"):
        assert list(record[part]) == ["cosine", "euclidean"]
        assert record[part]["cosine"]["protocol"] == "single_gallery_shot"
        assert list(record[part]["cosine"]["cumulative_matching"]) == ["1", "5", "10", "20"]
    points = record["verification"]["operating_points"]
    assert [point["target"] for point in points] == [1e-1, 1e-2, 1e-3, 1e-4]
    assert points[0]["threshold"] is not None
    with (out_folder / "cmc.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["cosine", "euclidean", "cosine_re_ranked", "euclidean_re_ranked"]
    assert list(rows[0]) == ["rank", *names]
    for name, part in zip(names, ["ranking"] * 2 + ["re_ranked"] * 2, strict=True):
        matching = record[part][name.removesuffix("_re_ranked")]["cumulative_matching"]
        assert float(rows[4][name]) == matching["5"]
    assert (out_folder / "roc.csv").read_text().startswith("threshold,false_accept_rate,")
    with (out_folder / "queries.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [f"query/{image.path.name}" for image in tiny_data.query]
    assert [row["query"] for row in rows] == expected
    precisions = [float(row["average_precision"]) for row in rows]
    cosine = record["ranking"]["cosine"]
    assert sum(precisions) / len(rows) == pytest.approx(cosine["mean_average_precision"])
    assert (tiny_market / rows[0]["nearest_1"]).is_file()


def test_a_set_without_cameras_says_so(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_market: Path, tmp_path: Path
) -> None:
    said = "no cameras: images of the same camera are not dropped"
    code, out, _ = run(capsys, "--weights", weights, "--data", tiny_market)
    assert code == 0
    assert said not in out
    folder = Path(shutil.copytree(tiny_market, tmp_path / "bare"))
    (folder / "prepared.json").write_text('{"has_cameras": false}')
    arguments = ["--weights", weights, "--data", folder, "--output", tmp_path / "out"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert said in out
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["has_cameras"] is False


def test_a_classic_split(
    capsys: pytest.CaptureFixture[str], weights: Path, tmp_path: Path, paint: Callable[..., Path]
) -> None:
    names = [f"1_00{person}_{view}_0{view}.png" for person in range(1, 6) for view in (1, 2)]
    for number, name in enumerate(names):
        paint(tmp_path / "set" / "images_detected" / name, 500 * number)
    splits = [
        {"train": [], "query": [[name, 0, 0] for name in names[:tested]], "gallery": []}
        for tested in (4, 6)
    ]
    (tmp_path / "set" / "splits_classic_detected.json").write_text(json.dumps(splits))
    arguments = ["--weights", weights, "--data", tmp_path / "set"]
    arguments += ["--as", "cuhk03-classic-detected", "--json"]
    for asked, split, images in (([], 0, 4), (["--split", 1], 1, 6)):
        code, out, _ = run(capsys, *arguments, *asked)
        assert code == 0
        record = json.loads(out)
        assert (record["data"]["split"], record["query_images"]) == (split, images)
        assert record["ranking"]["cosine"]["protocol"] == "single_gallery_shot"
    assert run(capsys, *arguments, "--split", 2)[0] == 2


def test_a_test_set_alone_gives_the_same(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_market: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copytree(tiny_market, tmp_path / "alone"))
    shutil.rmtree(alone / "bounding_box_train")
    records = []
    for folder in (tiny_market, alone):
        code, out, _ = run(capsys, "--weights", weights, "--data", folder, "--json")
        assert code == 0
        records.append(json.loads(out))
    assert records[0]["ranking"] == records[1]["ranking"]


@pytest.fixture
def one_person(tiny_market: Path, tiny_data: ReidData, tmp_path: Path) -> Path:
    person = tiny_data.query[0].person
    folder = Path(shutil.copytree(tiny_market, tmp_path / "one"))
    for split in ("query", "bounding_box_test"):
        for path in (folder / split).iterdir():
            if not path.name.startswith(f"{person:04d}_"):
                path.unlink()
    return folder


def test_one_person_is_ranked_and_not_verified(
    capsys: pytest.CaptureFixture[str], weights: Path, one_person: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "roc.csv").write_text("of an earlier measurement")
    code, out, err = run(
        capsys, "--weights", weights, "--data", one_person, "--output", tmp_path / "out"
    )
    assert (code, err) == (0, "")
    reason = "there are no impostor pairs of query and gallery (genuine ones from two cameras)"
    assert f"no verification: {reason}\n" in out
    assert "mAP" in out
    assert "EER" not in out
    assert f"metrics.json, cmc.csv and queries.csv are in {tmp_path / 'out'}\n" in out
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["cmc.csv", "metrics.json", "queries.csv"]
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert record["verification"] is None
    assert record["ranking"]["cosine"]["mean_average_precision"] == 1

    code, out, err = run(
        capsys, "--weights", weights, "--data", one_person, "--store-threshold", "eer"
    )
    assert (code, err) == (2, f"error: {one_person}: no threshold: {reason}\n")
    assert "mAP" in out


def test_torchscript_gives_the_same(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_market: Path, tmp_path: Path
) -> None:
    model, _ = load_checkpoint(weights)
    traced = torch.jit.trace(model, torch.rand(1, 3, 64, 32))
    torch.jit.save(traced, tmp_path / "traced.pt")
    ranking = []
    for path in (weights, tmp_path / "traced.pt"):
        code, out, _ = run(
            capsys, "--weights", path, "--data", tiny_market, "--json", "--input-size", "64x32"
        )
        assert code == 0
        ranking.append(json.loads(out)["ranking"]["cosine"]["mean_average_precision"])
    assert ranking[0] == pytest.approx(ranking[1], abs=1e-3)


@pytest.mark.parametrize("target", ["0.05", "eer"])
def test_threshold_is_stored(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_market: Path, target: str
) -> None:
    code, out, _ = run(
        capsys, "--weights", weights, "--data", tiny_market, "--store-threshold", target
    )
    assert code == 0
    stored = read_threshold(load_embedder(weights))
    assert f"threshold {stored.threshold:.4f} ({stored}) is in {weights}.threshold.json" in out
    assert stored.measured_on == tiny_market.name


def test_too_few_pairs_for_a_threshold(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_market: Path
) -> None:
    code, out, err = run(
        capsys, "--weights", weights, "--data", tiny_market, "--store-threshold", "1e-6"
    )
    assert code == 2
    assert err.startswith("error: no threshold for a false accept rate of 1e-06: below one in ")
    assert err.count("\n") == 1
    # What took long is shown all the same.
    assert "mAP" in out
    assert not Path(f"{weights}.threshold.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{data}"], "error: no model is named: give --weights FILE, or set REID_WEIGH"),
        (["--data", "{data}", "--weights", "no.pt"], "error: no.pt: no such file; give the path"),
        (["--data", "nowhere", "--weights", "{model}"], "error: nowhere: no such folder\n"),
        (
            ["--data", "{data}", "--weights", "{model}", "--input-size", "64"],
            "error: input size '64': expected rows and columns, such as 256x128\n",
        ),
        (
            ["--data", "{data}", "--weights", "{model}", "--protocol", "x"],
            "error: unknown protocol 'x'; choose one of: market1501, single_gallery_shot\n",
        ),
        (
            ["--data", "{data}", "--weights", "{model}", "--store-threshold", "x"],
            "error: threshold target 'x': expected a false accept rate or 'eer'\n",
        ),
        (
            ["--data", "{data}", "--weights", "{model}", "--device", "cuda"],
            "error: device cuda: torch finds no GPU; choose cpu or auto\n",
        ),
        (
            ["--data", "{data}", "--weights", "{model}", "--workers", "-1"],
            "error: a batch is of 1 image or more, and workers are 0 or more\n",
        ),
    ],
)
def test_bad_input_takes_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    weights: Path,
    tiny_market: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(weights.parent)
    monkeypatch.delenv("REID_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    filled = [text.format(data=tiny_market, model=weights) for text in arguments]
    code, out, err = run(capsys, *filled)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_output_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], weights: Path, tiny_market: Path
) -> None:
    code, _, err = run(
        capsys, "--weights", weights, "--data", tiny_market, "--output", weights / "out"
    )
    assert (code, err) == (2, f"error: {weights}/out: cannot be written (Not a directory)\n")
