import sys
from pathlib import Path

import pytest

from quantize.extras import import_extra
from reid_edge.core.errors import QuantizeError


def test_what_is_missing_is_named_with_how_to_install_it() -> None:
    with pytest.raises(QuantizeError, match=r"^the package absent is not installed: pip "):
        import_extra("absent.runtime")
    with pytest.raises(
        QuantizeError, match=r"^the package json is there, but json\.absent cannot "
    ):
        import_extra("json.absent")
    assert import_extra("json.decoder").JSONDecodeError


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
            import_extra(package)
        assert str(raised.value) == (
            f"the package {package} is there, but {package} cannot be imported ({reason}): "
            f"pip install -r requirements-{package}.txt"
        )


@pytest.mark.parametrize("package", ["executorch", "torchao", "openvino"])
def test_the_requirements_that_are_named_list_the_package(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(QuantizeError, match="is not installed: pip install -r ") as raised:
        import_extra(package)
    named = Path(__file__).parents[2] / str(raised.value).split()[-1]
    assert f"{package}==" in named.read_text()
