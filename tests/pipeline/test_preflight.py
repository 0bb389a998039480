"""What is said before a run that can do what it is asked to, but better otherwise."""

import logging

import pytest
import torch

from pipeline.config import Config
from pipeline.preflight import check_settings


@pytest.mark.parametrize(
    ("processor", "precision", "warned"),
    [
        ({"architecture": "x86_64", "avx512_f": True}, "bf16-mixed", True),
        ({"architecture": "x86_64", "avx512_f": True}, "32-true", False),
        ({"architecture": "x86_64", "avx512_bf16": True}, "bf16-mixed", False),
        ({"architecture": "x86_64", "amx_bf16": True}, "bf16-mixed", False),
        ({"architecture": "aarch64"}, "bf16-mixed", False),
    ],
)
def test_bfloat16_where_it_is_slow(
    processor: dict[str, object],
    precision: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    config = Config.model_validate(
        {"device": "cpu", "stages": ["train"], "train": {"precision": precision}}
    )
    with caplog.at_level(logging.WARNING, "pipeline.preflight"):
        check_settings(config)
    assert ("train.precision: bf16-mixed takes longer" in caplog.text) == warned


def test_what_pytorch_says_of_this_processor_is_understood() -> None:
    assert "architecture" in torch.cpu.get_capabilities()
