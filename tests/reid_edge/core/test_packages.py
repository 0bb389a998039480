import sys
from pathlib import Path

import pytest

from reid_edge.core.errors import ModelError, QuantizeError
from reid_edge.core.packages import how_to_install, import_package, missing_packages


def test_what_is_missing_is_named_with_the_file_and_how_to_install_it() -> None:
    with pytest.raises(
        ModelError, match=r'^f\.xml: needs the package absent: pip install "reid-edge\[other\]"$'
    ):
        import_package("absent.runtime", extra="other", needed_by=Path("f.xml"), error=ModelError)
    with pytest.raises(QuantizeError, match=r"the package json, which is there, but json\.absent "):
        import_package("json.absent", extra="json", needed_by="openvino", error=QuantizeError)
    found = import_package("json.decoder", extra="json", needed_by="this")
    assert found.JSONDecodeError


def test_a_package_that_does_not_load_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_extra.py").write_text("raise ImportError('undefined symbol:\\n _ZN2ov')")
    (tmp_path / "incomplete_extra.py").write_text("import absent_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    for package, reason in (
        ("broken_extra", "undefined symbol: _ZN2ov"),
        ("incomplete_extra", "No module named 'absent_dependency'"),
    ):
        with pytest.raises(QuantizeError) as raised:
            import_package(package, extra="extra", needed_by="f.xml", error=QuantizeError)
        assert str(raised.value) == (
            f"f.xml: needs the package {package}, which is there, but {package} cannot be imported "
            f'({reason}): pip install "reid-edge[extra]"'
        )


def test_missing_packages_are_found_without_importing_them() -> None:
    assert missing_packages(["absent", "json", "antigravity"]) == ["absent"]
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("package", "extra"),
    [("executorch", "executorch"), ("torchao", "executorch"), ("openvino", "openvino"),
     ("ncnn", "ncnn"), ("pnnx", "ncnn"), ("MNN", "mnn"),
     ("ai-edge-litert", "litert"),
     ("torch", "compress"), ("kagglehub", "datasets"), ("tensorboard", "tensorboard")],
)  # fmt: skip
def test_the_requirements_that_are_named_list_the_package(package: str, extra: str) -> None:
    named = Path(__file__).parents[3] / how_to_install(extra).split()[-1]
    assert f"{package}==" in named.read_text()


def test_on_arm_nni_is_installed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert how_to_install("compress") == (
        "pip install -r requirements.txt and python locks/install_nni.py"
    )
    assert how_to_install("datasets") == "pip install -r requirements.txt"
    assert (Path(__file__).parents[3] / "locks" / "install_nni.py").is_file()
