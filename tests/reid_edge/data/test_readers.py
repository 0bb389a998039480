"""A data set is one declaration: everything else takes what it needs from there."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from reid_edge.cli.main import main
from reid_edge.core.errors import DataError
from reid_edge.data.checking import check_data
from reid_edge.data.prepare import prepare
from reid_edge.data.provenance import read_provenance
from reid_edge.data.reader import Reader
from reid_edge.data.readers import READERS
from reid_edge.data.schema import Counts
from reid_edge.data.sources import read_source, recognise_sources

Paint = Callable[..., Path]


@pytest.fixture(scope="module")
def toy() -> Reader:
    """The declaration of another package, which is one file."""
    path = Path(__file__).with_name("toy_reader.py")
    spec = spec_from_file_location("toy_reader", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    reader: Reader = module.TOY
    return reader


@pytest.fixture
def registered(toy: Reader) -> Iterator[None]:
    READERS.register("toy", toy)
    yield
    READERS.unregister("toy")


@pytest.fixture
def folder(tmp_path: Path, paint: Paint) -> Path:
    for number, person in enumerate(("ann", "bob", "eve", "joe")):
        for camera in (1, 2):
            paint(tmp_path / "own" / f"{person}-{camera}-0.png", 10 * number + camera)
    (tmp_path / "own" / "toy.txt").touch()
    return tmp_path / "own"


def test_a_reader_need_not_be_registered(toy: Reader, folder: Path, tmp_path: Path) -> None:
    data = read_source(toy, folder)
    assert Counts.of(data) == Counts(4, 2, 2, 2, 2)
    assert not check_data(data).problems()
    prepared = prepare(toy, folder, tmp_path / "out")
    assert Counts.of(prepared) == Counts(4, 2, 2, 2, 2)
    request = read_provenance(tmp_path / "out").request
    assert request is not None
    assert request.data_set == "toy"
    assert len(read_source(toy, folder, train_all=True).train) == 8
    with pytest.raises(DataError, match="toy has no option 'all': did you mean 'train_all'"):
        read_source(toy, folder, all=True)


@pytest.mark.usefixtures("registered")
def test_a_registered_reader_is_like_any_other(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recognise_sources(folder) == ["toy"]
    assert main(["check", str(folder)]) == 0
    assert "read as toy" in capsys.readouterr().out
    assert main(["prepare", "toy", "--from", str(folder), "--to", str(tmp_path / "out")]) == 0
    assert "4 training images of 2 identities" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "out")]) == 0
    assert "read as market1501, prepared from toy" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    assert "folders, toy" in capsys.readouterr().out


@pytest.mark.usefixtures("registered")
def test_its_counts_are_checked_and_kaggle_does_not_have_it(folder: Path, tmp_path: Path) -> None:
    (folder / "joe-2-0.png").unlink()
    with pytest.raises(DataError, match=r"toy has 4 training images of 2 .*; found 3 training"):
        prepare("toy", folder, tmp_path / "out")
    with pytest.raises(DataError, match="toy cannot be fetched from Kaggle; get its archive"):
        prepare("toy", None, tmp_path / "out")


def test_every_declaration_is_whole() -> None:
    for name, reader in READERS.items():
        assert reader.name == name
        assert reader.layout
        assert reader.publication or not reader.counts
        assert reader.marks or reader.any_folders or name.startswith("cuhk03-classic")
    assert [name for name, reader in READERS.items() if reader.any_folders] == ["folders"]


def test_declarations_need_no_heavy_package() -> None:
    program = (
        "import sys; from reid_edge.data.readers import READERS; import reid_edge.data.sources\n"
        "dict(READERS.items())\n"
        "print([name for name in ('torch', 'scipy', 'h5py', 'kagglehub') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
