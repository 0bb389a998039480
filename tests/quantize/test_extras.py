import pytest

from quantize.errors import QuantizeError
from quantize.extras import import_extra


def test_what_is_missing_is_named_with_how_to_install_it() -> None:
    with pytest.raises(QuantizeError, match=r"^the package absent is not installed: pip "):
        import_extra("absent.runtime")
    assert import_extra("json.decoder").JSONDecodeError
