from pathlib import Path

import pytest

from reid_edge.core.errors import ModelError
from reid_edge.inference.extras import import_extra


def test_what_is_missing_is_named_with_the_file_and_how_to_install_it() -> None:
    with pytest.raises(
        ModelError, match=r"^f\.xml: needs the package absent: pip install -r requirements-absent"
    ):
        import_extra("absent.runtime", Path("f.xml"))
    assert import_extra("json.decoder", Path("f.xml")).JSONDecodeError


def test_a_package_that_does_not_load_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_runtime.py").write_text("raise ImportError('undefined symbol:\\n _ZN2ov')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError) as raised:
        import_extra("broken_runtime", Path("f.xml"))
    assert str(raised.value) == (
        "f.xml: needs the package broken_runtime, which is there, but broken_runtime cannot be "
        "imported (undefined symbol: _ZN2ov): pip install -r requirements-broken_runtime.txt"
    )
