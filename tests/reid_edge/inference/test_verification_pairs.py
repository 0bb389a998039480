"""Which pairs count: all but one person's on one camera, or all where there are no cameras."""

from collections.abc import Callable
from pathlib import Path

import torch

from reid_edge.data.prepare import prepare
from reid_edge.data.readers.csv_list import read_csv_lists
from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.evaluation import evaluate_embeddings, verification_pairs


def image(name: str, person: int, camera: int) -> Sample:
    return Sample(Path(name), person, camera)


QUERY = (image("a", 1, 1), image("b", 2, 1))
GALLERY = (image("c", 1, 2), image("d", 2, 1), image("e", 2, 2), image("f", 3, 1))
# As `stand_in_cameras` numbers them: no two images of a person share one.
FACES = (image("c", 1, 2), image("d", 2, 2), image("e", 2, 3), image("f", 3, 1))


def one_hot(count: int, first: int = 0) -> torch.Tensor:
    """Give every image a direction of its own, so that equal ones show."""
    return torch.eye(8)[first : first + count]


def test_with_cameras_genuine_pairs_are_of_two_cameras() -> None:
    data = ReidData(Path(), (), QUERY, GALLERY)
    pairs = verification_pairs(data, one_hot(2), one_hot(4, 2))
    # Genuine: a-c, b-e, and not b-d of one camera. Impostors: a-d, a-e, a-f, b-c, b-f; d and f
    # have the queries' camera.
    assert len(pairs.genuine) == 2
    assert len(pairs.impostor) == pairs.impostor_pairs == 5
    counts = evaluate_embeddings(one_hot(2), one_hot(4, 2), data).result.pairs
    assert "genuine ones from two cameras" in counts.which
    assert (counts.genuine, counts.impostor, counts.sampled) == (2, 5, False)


def test_without_cameras_every_image_meets_every_other_one() -> None:
    data = ReidData(Path(), (), QUERY, FACES, has_cameras=False)
    pairs = verification_pairs(data, one_hot(2), one_hot(4, 2))
    # 15 pairs in all; persons 1, 2 and 3 have 2, 3 and 1 images.
    assert len(pairs.genuine) == 1 + 3
    assert len(pairs.impostor) == pairs.impostor_pairs == 15 - 4
    counts = evaluate_embeddings(one_hot(2), one_hot(4, 2), data).result.pairs
    assert "all test images" in counts.which
    assert (counts.genuine, counts.impostor, counts.missing) == (4, 11, None)


def test_an_image_is_not_compared_with_itself() -> None:
    data = ReidData(Path(), (), FACES, FACES, has_cameras=False)
    pairs = verification_pairs(data, one_hot(4), one_hot(4))
    assert len(pairs.genuine) == 1
    assert pairs.genuine.item() == 0.0
    assert len(pairs.impostor) == 5


def test_an_image_in_query_and_gallery_stays_one_when_it_is_prepared(
    paint: Callable[..., Path], tmp_path: Path
) -> None:
    own = tmp_path / "own"
    names = [f"{person}{number}.png" for person in "abcd" for number in (1, 2)]
    for shade, name in enumerate(names):
        paint(own / name, shade)
    for split, listed in (("train", names[4:]), ("query", names[:4:2]), ("gallery", names[:4])):
        lines = ["img_path,person_id", *(f"{name},{name[0]}" for name in listed)]
        (own / f"{split}.csv").write_text("\n".join(lines) + "\n")
    for data in (read_csv_lists(own), prepare("csv", own, tmp_path / "prepared")):
        pairs = verification_pairs(data, one_hot(4)[::2], one_hot(4))
        assert pairs.genuine.tolist() == [0.0, 0.0]
        assert len(pairs.impostor) == pairs.impostor_pairs == 4
