"""What is known of a site's images, and whether they can be adapted to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from reid_edge.adaptation.site import Site, site_of
from reid_edge.adaptation.site_views import Separation, embed_changed, measure_separation
from reid_edge.core.errors import DataError, ModelError
from reid_edge.data.schema import ReidData, Sample


def test_tracks_of_one_camera_in_one_frame_are_two_persons() -> None:
    images = [
        Sample(Path("a"), person=3, camera=1, frame=10),
        Sample(Path("b"), person=1, camera=1, frame=10),
        Sample(Path("c"), person=2, camera=2, frame=10),
        Sample(Path("d"), person=2, camera=2, frame=11),
    ]
    data = ReidData(Path(), tuple(images), (), (), labels="tracks")
    site = site_of(images, data)
    assert site.apart == {(1, 3)}
    assert site.conflict(3, 1)
    assert not site.conflict(2, 3)
    assert site.tracks is not None
    assert site.tracks.tolist() == [3, 1, 2, 2]
    part = site.take([2, 0])
    assert part.cameras is not None
    assert part.cameras.tolist() == [2, 1]


def test_persons_are_never_looked_at() -> None:
    images = [Sample(Path("a"), person=3, camera=1), Sample(Path("b"), person=3, camera=2)]
    for labels in ("persons", "none"):
        data = ReidData(Path(), tuple(images), (), (), has_cameras=False, labels=labels)  # type: ignore[arg-type]
        assert site_of(images, data) == Site()


def test_as_many_cameras_as_tracks_are_expected() -> None:
    with pytest.raises(DataError, match="cameras of 2 images and tracks of 3: expected as many"):
        Site(cameras=np.zeros(2, dtype=np.int64), tracks=np.zeros(3, dtype=np.int64))


class MeanColours(nn.Module):
    """Embeds an image by the mean colours of a grid."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, (4, 2)).flatten(1) + 0.1


class Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 8) + 1e-4 * images.mean((1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Images of coloured blots, and in ``alike`` one image over and over."""
    folder, generator = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    found = []
    for number in range(24):
        pixels = generator.integers(0, 256, (8, 4, 3), dtype=np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).resize((16, 32), Image.Resampling.NEAREST).save(path)
        found.append(Sample(path, 0, 1))
    return found


def test_images_are_compared_with_changed_copies(noise: list[Sample]) -> None:
    model = MeanColours()
    first = measure_separation(model, noise, height=32, width=16, seed=1)
    assert first == measure_separation(model, noise, height=32, width=16, seed=1)
    assert 0 < first.within < first.between
    changed = embed_changed(model, noise, height=32, width=16, seed=1)
    assert changed.shape == (24, 24)
    assert not torch.equal(changed, embed_changed(model, noise, height=32, width=16, seed=2))


def test_images_of_one_person_or_of_none_are_named_with_their_figure() -> None:
    assert Separation(between=0.4, within=0.2).problem == ""
    assert Separation(between=0.25, within=0.2).problem == (
        "an image differs from a changed copy of itself by 80% of what it differs from other "
        "images (with many persons it is 35 to 54%, 58% at most): these images show one person, "
        "or no persons"
    )


def test_images_that_are_all_alike_are_refused(noise: list[Sample]) -> None:
    with pytest.raises(DataError, match=r"the images are all alike \(their pixels differ by 0\.0"):
        measure_separation(MeanColours(), [noise[0]] * 24, height=32, width=16, seed=0)


def test_a_model_whose_embeddings_collapse_is_refused(noise: list[Sample]) -> None:
    with pytest.raises(ModelError, match=r"nearly the same embedding for all of 24 different imag"):
        measure_separation(Constant(), noise, height=32, width=16, seed=0)
