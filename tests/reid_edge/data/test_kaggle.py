"""Fetching from Kaggle, without Kaggle's answers: a stand-in gives them."""

import inspect
import sys
from pathlib import Path
from types import ModuleType

import kagglehub
import pytest
from kagglehub.handle import parse_dataset_handle

from reid_edge.core.errors import DataError
from reid_edge.data.prepare.kaggle import fetch_from_kaggle
from reid_edge.data.readers import READERS


def pretend(monkeypatch: pytest.MonkeyPatch, answer: str | Exception) -> list[str]:
    """Put something in kagglehub's place; return the list of what it is asked for."""
    asked: list[str] = []

    def dataset_download(handle: str) -> str:
        asked.append(handle)
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = ModuleType("kagglehub")
    module.dataset_download = dataset_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return asked


def test_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, "/cache/market")
    assert fetch_from_kaggle(READERS.load("market1501")) == Path("/cache/market")
    assert asked == ["pengcw1/market-1501"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("Max retries exceeded " * 20), r"\(ConnectionError\)"),
        (RuntimeError("403 Client Error.\n\nYou don't have permission"), r"\(403 Client Error.\)"),
        (OSError(), r"\(OSError\)"),
    ],
)
def test_no_network_or_credentials(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    pretend(monkeypatch, error)
    with pytest.raises(
        DataError,
        match=f"priyanagda/cuhk03 cannot be fetched from Kaggle {reason}; check the network and "
        "Kaggle's credentials, or give a local archive or folder with --from",
    ) as caught:
        fetch_from_kaggle(READERS.load("cuhk03-detected"))
    assert "\n" not in str(caught.value)


def test_kagglehub_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("reid_edge.core.packages.importlib.import_module", refuse)
    with pytest.raises(DataError) as caught:
        fetch_from_kaggle(READERS.load("market1501"))
    assert str(caught.value) == (
        "market1501 from Kaggle: needs the package kagglehub: pip install -r requirements.txt"
    )


def test_kagglehub_has_what_is_called() -> None:
    inspect.signature(kagglehub.dataset_download).bind("owner/name")
    handles = [reader.kaggle for _, reader in READERS.items() if reader.kaggle]
    assert len(handles) == 6
    for handle in handles:
        assert str(parse_dataset_handle(handle)) == handle


def test_the_real_kagglehub_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match="pengcw1/market-1501 cannot be fetched from Kaggle"):
        fetch_from_kaggle(READERS.load("market1501"))


def test_what_kaggle_does_not_have() -> None:
    with pytest.raises(
        DataError,
        match=r"msmt17 cannot be fetched from Kaggle; .* with --from \(from Kaggle: market",
    ):
        fetch_from_kaggle(READERS.load("msmt17"))
