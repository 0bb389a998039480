"""Published weights by name, from the cache or from a server, here a local one."""

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from pipeline.settings_io import load_config
from pipeline.stages.train import TRAIN
from reid_edge.core.errors import CheckpointError
from reid_edge.models import build_model
from reid_edge.models.pretrained import load_pretrained
from reid_edge.models.published import PUBLISHED, PublishedWeights, fetch, weights_folder

NAME = "osnet_x0_25_test"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REID_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "server"
    folder.mkdir()
    torch.save(build_model("osnet_x0_25").state_dict(), folder / "w.pth")
    (folder / "page.pth").write_text("<html>quota exceeded</html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def published(server: str, file: str = "w.pth", sha256: str = "") -> PublishedWeights:
    return PublishedWeights(NAME, "own.pth", f"{server}/{file}", "http://page", sha256)


def test_a_setting_names_what_is_downloaded_once(
    home: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = (tmp_path / "server" / "w.pth").read_bytes()
    weights = published(server, sha256=hashlib.sha256(content).hexdigest()[:8])
    PUBLISHED.register(NAME, weights)
    try:
        (tmp_path / "c.yaml").write_text(f"train: {{pretrained: {NAME}}}")
        settings = load_config(tmp_path / "c.yaml").train
        assert settings.pretrained == home / "own.pth"
        assert not settings.pretrained.exists()
        (file,) = TRAIN.files(settings)
        assert file.path.read_bytes() == content
        assert [path.name for path in home.iterdir()] == ["own.pth"]
        (tmp_path / "server" / "w.pth").unlink()
        assert TRAIN.files(settings) == [file]
    finally:
        PUBLISHED.unregister(NAME)
    assert load_pretrained(build_model("osnet_x0_25"), file.path).dropped == ()


@pytest.mark.parametrize(
    ("file", "sha256", "message"),
    [
        ("none.pth", "", r"cannot be downloaded \(HTTP Error 404: File not found\); download http"),
        (
            "page.pth",
            "",
            r"page.pth gives something else; download .* \(it is no file of PyTorch\)",
        ),
        ("w.pth", "00000000", r"gives something else; .* \(SHA-256 .*, expected 00000000\)"),
    ],
)
def test_what_cannot_be_had_is_said(
    home: Path, server: str, file: str, sha256: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        fetch(published(server, file, sha256))
    assert f"(see http://page) and save it as {home}/own.pth" in str(caught.value)
    assert not home.exists()


def test_a_damaged_file_in_the_cache(home: Path) -> None:
    home.mkdir()
    (home / "own.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"own.pth: is not what http://page publishes"):
        fetch(published("http://127.0.0.1:9", sha256="00000000"))


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("REID_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_folder() == tmp_path / "reid-edge"
    assert PUBLISHED.load("osnet_x1_0_imagenet").path == tmp_path / "reid-edge" / (
        "osnet_x1_0_imagenet.pth"
    )
    (tmp_path / "osnet_x1_0_imagenet").write_text("a file of this name wins")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("train: {pretrained: osnet_x1_0_imagenet}")
    assert load_config(tmp_path / "c.yaml").train.pretrained == tmp_path / "osnet_x1_0_imagenet"
