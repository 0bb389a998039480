from pathlib import Path

import pytest

from reid.errors import ModelError
from reid.inference.extras import import_extra


def test_what_is_missing_is_named_with_the_file_and_how_to_install_it() -> None:
    with pytest.raises(
        ModelError, match=r"^f\.xml: needs the package absent: pip install -r requirements-absent"
    ):
        import_extra("absent.runtime", Path("f.xml"))
    assert import_extra("json.decoder", Path("f.xml")).JSONDecodeError
