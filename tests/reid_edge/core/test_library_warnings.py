"""Warnings of other libraries become lines of the log."""

import logging
import sys
import warnings

import pytest

from quantize.quiet import hints_silenced, torch_notices_silenced
from reid_edge.core.library_warnings import is_of, log_warnings


def test_all_warnings_or_some(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "reid_edge"), warnings.catch_warnings():
        log_warnings()
        warnings.warn("of no\n  use", FutureWarning, stacklevel=1)
    (line,) = caplog.messages
    assert line.startswith("test_library_warnings.py:")
    assert line.endswith(": FutureWarning: of no use")
    caplog.clear()
    with warnings.catch_warnings(record=True) as printed:
        warnings.simplefilter("always")
        log_warnings(lambda text, *_: text.startswith("hidden"))
        warnings.warn("hidden", stacklevel=1)
        warnings.warn("seen", stacklevel=1)
    assert [str(warning.message) for warning in printed] == ["seen"]
    assert caplog.messages == []  # below the level


def test_whose_warning_it_is() -> None:
    assert is_of("torch", "nni")("", UserWarning, "/x/site-packages/torch/nn/modules.py")
    assert not is_of("torch")("", UserWarning, "/x/site-packages/torchvision/io.py")


def test_what_converters_print_and_warn_of_is_for_the_log_file(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "reid_edge"):
        with hints_silenced():
            sys.stdout.write("a hint\n")
            warnings.warn("a warning", stacklevel=1)
            logging.getLogger("a.converter").warning("not this")
        with torch_notices_silenced():
            warnings.warn("torch.jit.trace is deprecated", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr() == ("", "")
    assert [line.rpartition(": ")[2] for line in caplog.messages[:2]] == ["a warning", "a hint"]
    assert "not this" not in caplog.text
