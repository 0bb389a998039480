"""Fetching from Kaggle, without Kaggle."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from reid.data.kaggle import fetch_from_kaggle
from reid.errors import DataError


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
    assert fetch_from_kaggle("market1501") == Path("/cache/market")
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
        fetch_from_kaggle("cuhk03-detected")
    assert "\n" not in str(caught.value)


def test_kagglehub_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(
        DataError,
        match="fetching market1501 from Kaggle needs the package kagglehub: pip install kagglehub, "
        "or give a local archive or folder with --from",
    ):
        fetch_from_kaggle("market1501")


def test_what_kaggle_does_not_have() -> None:
    with pytest.raises(
        DataError,
        match=r"msmt17 cannot be fetched from Kaggle; .* with --from \(from Kaggle: market",
    ):
        fetch_from_kaggle("msmt17")
