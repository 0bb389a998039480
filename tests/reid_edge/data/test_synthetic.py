"""Synthetic pedestrians: the same bytes each time, the right layout, never half a data set."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reid_edge.core.errors import DataError
from reid_edge.core.progress import no_progress
from reid_edge.data.synthetic import SyntheticSettings, write_synthetic_market1501
from reid_edge.data.synthetic import write as write_module
from reid_edge.data.synthetic.canvas import Canvas
from reid_edge.data.synthetic.figure import paint_person
from reid_edge.data.synthetic.identity import Bag, Logo, Person, Upper, draw_person
from reid_edge.data.synthetic.market import entries
from reid_edge.data.synthetic.pose import Gait, View
from reid_edge.data.synthetic.randomness import Stream, generator
from reid_edge.data.synthetic.write import draw_all

pytestmark = pytest.mark.medium

SMALL = SyntheticSettings(
    train_identities=3,
    test_identities=2,
    cameras=2,
    images_per_camera=3,
    distractors=3,
    junk=2,
    height=64,
    width=32,
)
NAME = re.compile(r"([-\d]+)_c(\d+)")
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


def write(folder: Path, **changes: int) -> Path:
    write_synthetic_market1501(folder, replace(SMALL, **changes))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.jpg"))}


def run_apart(code: str, folder: Path) -> int:
    """Run code in a process of its own, with other hashes; return its exit status."""
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.run(command, check=False, cwd=root, env=environment).returncode


def labels(folder: Path) -> Counter[tuple[int, int]]:
    """Count the images by identity and camera, read as every Market-1501 reader does."""
    found = (NAME.match(path.name) for path in folder.glob("*.jpg"))
    return Counter((int(match[1]), int(match[2])) for match in found if match)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("synthetic") / "small")


# Determinism


def test_same_seed_gives_the_same_bytes_in_another_process(small: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reid_edge.data.synthetic import *\n"
        f"write_synthetic_market1501(Path(sys.argv[1]), {SMALL!r})"
    )
    again = tmp_path / "again"
    assert run_apart(code, again) == 0
    assert contents(again) == contents(small)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process draws all")
def test_several_processes_draw_the_same_bytes(small: Path, tmp_path: Path) -> None:
    for name in (TRAIN, QUERY, GALLERY):
        (tmp_path / name).mkdir()
    everything = list(entries(SMALL))
    seen: list[tuple[int, int]] = []
    draw_all(everything, SMALL, tmp_path, 3, lambda done, total: seen.append((done, total)))
    assert contents(tmp_path) == contents(small)
    assert seen == sorted(set(seen))
    assert seen[-1] == (len(everything), len(everything))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process draws all")
def test_what_another_process_cannot_write_is_an_error_of_this_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / TRAIN).mkdir()
    found = {str(Path(entry.path).parent): entry for entry in entries(SMALL)}
    with pytest.raises(FileNotFoundError, match=QUERY):
        draw_all([found[TRAIN], found[QUERY]], SMALL, tmp_path, 2, no_progress("drawing"))
    assert capfd.readouterr() == ("", "")


def test_another_seed_gives_other_images(small: Path, tmp_path: Path) -> None:
    other = contents(write(tmp_path / "other", seed=1))
    assert other.keys() == contents(small).keys()
    assert not set(other.values()) & set(contents(small).values())


@pytest.mark.parametrize(
    "more",
    [
        {"train_identities": 5},
        {"test_identities": 3},
        {"images_per_camera": 4},
        {"distractors": 5, "junk": 4},
    ],
)
def test_more_of_something_leaves_the_rest_as_it_was(
    small: Path, tmp_path: Path, more: dict[str, int]
) -> None:
    larger = contents(write(tmp_path / "larger", **more))
    for name, image in contents(small).items():
        assert larger[name] == image, name


def test_another_camera_leaves_the_identities_as_they_were(small: Path, tmp_path: Path) -> None:
    larger = contents(write(tmp_path / "larger", cameras=3, distractors=0, junk=0))
    for name, image in contents(small).items():
        if not Path(name).name.startswith(("0000", "-1")):
            assert larger[name] == image, name


def test_no_two_images_are_the_same(small: Path) -> None:
    images = contents(small)
    assert len(set(images.values())) == len(images)


# Layout


def test_training_has_each_identity_in_each_camera(small: Path) -> None:
    counts = labels(small / TRAIN)
    assert len({identity for identity, _ in counts}) == SMALL.train_identities
    assert {camera for _, camera in counts} == {1, 2}
    assert set(counts.values()) == {SMALL.images_per_camera}


def test_query_has_one_image_per_identity_and_camera(small: Path) -> None:
    counts = labels(small / QUERY)
    assert len(counts) == SMALL.test_identities * SMALL.cameras
    assert set(counts.values()) == {1}


def test_gallery_has_the_rest_and_the_strangers(small: Path) -> None:
    gallery, query = labels(small / GALLERY), labels(small / QUERY)
    known = {key: count for key, count in gallery.items() if key[0] > 0}
    assert known == dict.fromkeys(query, SMALL.images_per_camera - 1)
    assert sum(count for (identity, _), count in gallery.items() if identity == 0) == 3
    assert sum(count for (identity, _), count in gallery.items() if identity == -1) == 2


def test_training_and_test_share_no_identity(small: Path) -> None:
    train = {identity for identity, _ in labels(small / TRAIN)}
    test = {identity for identity, _ in labels(small / QUERY)}
    assert not train & test


def test_names_are_those_of_market1501(small: Path) -> None:
    form = re.compile(r"(-1|\d{4})_c\ds\d_\d{6}_\d{2}\.jpg")
    assert all(form.fullmatch(path.name) for path in small.rglob("*.jpg"))


@pytest.mark.parametrize(("height", "width"), [(32, 16), (96, 48), (80, 80), (256, 128)])
def test_images_have_the_size_asked_for(tmp_path: Path, height: int, width: int) -> None:
    folder = write(tmp_path / "sized", height=height, width=width, train_identities=1)
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (width, height))


def test_the_manifest_tells_settings_and_counts(small: Path) -> None:
    manifest = json.loads((small / "synthetic.json").read_text())
    assert SyntheticSettings(**manifest["settings"]) == SMALL
    assert manifest["images"] == {TRAIN: 18, QUERY: 4, GALLERY: 8 + 5}


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    settings = replace(SMALL, height=32, width=16)
    write_synthetic_market1501(tmp_path / "new", settings, lambda *pair: seen.append(pair))
    assert seen == [(done, 35) for done in range(1, 36)]


# What makes identities tell apart


def painted(person: Person, heading: float) -> bytes:
    canvas = Canvas(Image.new("RGB", (128, 256), (128, 128, 128)))
    view = View(heading=heading, pitch=0.1, pixels=230, centre=64, ground=245)
    gait = Gait(phase=0.6, stride=0.3, left_elbow=0.2, right_elbow=0.2)
    paint_person(canvas, person, view, gait)
    return canvas.image.tobytes()


@pytest.fixture
def plain_person() -> Person:
    person = draw_person(generator(0, Stream.TRAIN, identity=0))
    return replace(person, upper=Upper.T_SHIRT, bag=Bag.NONE, bag_left=True, logo=None, inner=None)


def test_a_print_is_seen_from_the_front_only(plain_person: Person) -> None:
    printed = replace(plain_person, logo=Logo(colour=(255, 0, 0), width=0.08, height=0.06))
    assert painted(printed, 0.0) != painted(plain_person, 0.0)
    assert painted(printed, pi) == painted(plain_person, pi)


@pytest.mark.parametrize("bag", [Bag.BACKPACK, Bag.SHOULDER, Bag.HAND])
@pytest.mark.parametrize("heading", [0.0, pi, -pi / 2])
def test_a_bag_is_seen_from_its_side(plain_person: Person, bag: Bag, heading: float) -> None:
    carrying = replace(plain_person, bag=bag, bag_colour=(255, 0, 0))
    assert painted(carrying, heading) != painted(plain_person, heading)


def test_the_body_hides_a_bag_in_the_far_hand(plain_person: Person) -> None:
    carrying = replace(plain_person, bag=Bag.HAND, bag_colour=(255, 0, 0), bag_size=0.8)
    assert painted(carrying, pi / 2) == painted(plain_person, pi / 2)


def test_an_identity_resembles_itself_across_cameras(tmp_path: Path) -> None:
    write(tmp_path / "many", train_identities=24, test_identities=1, distractors=0, junk=0)
    looks: dict[tuple[int, int], list[np.ndarray[Any, Any]]] = {}
    for path in sorted((tmp_path / "many" / TRAIN).glob("*.jpg")):
        identity, camera = (int(part) for part in NAME.match(path.name).groups())  # type: ignore[union-attr]
        stripes = Image.open(path).crop((8, 0, 24, 64)).resize((1, 8), Image.Resampling.BOX)
        looks.setdefault((identity, camera), []).append(np.asarray(stripes, np.float64).ravel())
    cameras = [
        np.stack([np.mean(looks[identity, camera], axis=0) for identity in range(2, 50, 2)])
        for camera in (1, 2)
    ]
    # What a camera does to all images alike does not distinguish identities.
    first, second = (view - view.mean(axis=0) for view in cameras)
    distances = np.linalg.norm(first[:, None] - second[None, :], axis=2)
    different = distances[~np.eye(24, dtype=bool)]
    assert distances.diagonal().mean() < 0.8 * different.mean()


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_identities": 0}, "train_identities must be 1 to 4999, not 0"),
        ({"test_identities": 5000}, "test_identities must be 1 to 4999, not 5000"),
        ({"cameras": 1}, "cameras must be 2 to 99, not 1"),
        ({"images_per_camera": 1}, "images_per_camera must be 2 to 99, not 1"),
        ({"height": 8}, "height must be 32 to 512, not 8"),
        ({"width": 0}, "width must be 16 to 512, not 0"),
        ({"distractors": -1}, "distractors must be 0 to 99999, not -1"),
        ({"junk": -1}, "junk must be 0 to 99999, not -1"),
        ({"seed": -1}, "seed must be 0 to 4294967295, not -1"),
        ({"seed": 2**32}, "seed must be 0 to 4294967295, not 4294967296"),
        ({"cameras": 2.5}, "cameras must be a whole number, not 2.5"),
        ({"cameras": "4"}, "cameras must be a whole number, not '4'"),
        ({"junk": True}, "junk must be a whole number, not True"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        SyntheticSettings(**changes)
    assert "\n" not in str(caught.value)


# Folders that exist


def refused(folder: Path, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        write(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "remove" in message
    assert "\n" not in message


def test_a_finished_folder_is_left_alone(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: object) -> None:
        raise AssertionError("drew an image that was there already")

    monkeypatch.setattr(write_module, "draw_entry", unexpected)
    write(small)


def test_an_empty_folder_is_filled(small: Path, tmp_path: Path) -> None:
    assert contents(write(tmp_path)) == contents(small)


def test_missing_parents_are_made(tmp_path: Path) -> None:
    assert (write(tmp_path / "a" / "b", height=32, width=16) / "synthetic.json").is_file()


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    before = contents(write(tmp_path / "made", seed=3, junk=0))
    refused(tmp_path / "made", "other settings .seed 3, not 0, junk 0, not 2.")
    assert contents(tmp_path / "made") == before


def test_a_foreign_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.jpg").write_bytes(b"precious")
    refused(tmp_path / "mine", "something other than synthetic images")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "holiday.jpg"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    refused(tmp_path / "file", "is a file")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "not a manifest"),
        ('{"format": 0}', "another version"),
        ('{"format": 1}', "none recorded"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, manifest: str, words: str) -> None:
    (tmp_path / "synthetic.json").write_text(manifest)
    refused(tmp_path, words)


def test_a_missing_image_is_noticed(tmp_path: Path) -> None:
    folder = write(tmp_path / "made")
    next((folder / QUERY).glob("*.jpg")).unlink()
    with pytest.raises(DataError, match="query has 3 of its 4 images"):
        write(folder)


# Interruption


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError("full"), DataError)]
)
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, small: Path, error: BaseException, raised: type[BaseException]
) -> None:
    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise error

    with pytest.raises(raised):
        write_synthetic_market1501(tmp_path / "new", SMALL, stop)
    assert list(tmp_path.iterdir()) == []
    assert contents(write(tmp_path / "new")) == contents(small)


def test_a_killed_run_is_not_taken_for_whole(tmp_path: Path, small: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from reid_edge.data.synthetic import *\n"
        "stop = lambda done, total: done < total or os._exit(9)\n"
        f"write_synthetic_market1501(Path(sys.argv[1]), {SMALL!r}, stop)"
    )
    folder = tmp_path / "new"
    assert run_apart(code, folder) == 9
    assert not folder.exists()
    assert contents(write(folder)) == contents(small)


def last_moment(action: Callable[[], object]) -> Callable[[int, int], None]:
    """Return a progress callback that acts when all is drawn but nothing bears its name yet."""

    def progress(done: int, total: int) -> None:
        if done == total:
            action()

    return progress


def test_another_process_may_finish_first(tmp_path: Path, small: Path) -> None:
    folder = tmp_path / "new"
    write_synthetic_market1501(folder, SMALL, last_moment(lambda: write(folder)))
    assert contents(folder) == contents(small)
    assert list(tmp_path.iterdir()) == [folder]


def test_another_process_with_other_settings_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with pytest.raises(DataError, match="other settings"):
        write_synthetic_market1501(folder, SMALL, last_moment(lambda: write(folder, seed=5)))
    assert list(tmp_path.iterdir()) == [folder]
