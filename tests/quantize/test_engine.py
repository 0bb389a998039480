import pytest
import torch

from reid_edge.core.errors import QuantizeError
from reid_edge.core.int8_engine import quantized_engine, supported_engines


def test_the_engine_is_put_back() -> None:
    before = torch.backends.quantized.engine
    for engine in supported_engines():
        with quantized_engine(engine):
            assert torch.backends.quantized.engine == engine
        assert torch.backends.quantized.engine == before


def test_the_engine_is_put_back_after_an_exception() -> None:
    before = torch.backends.quantized.engine
    other = next(name for name in supported_engines() if name != before)
    with pytest.raises(KeyError), quantized_engine(other):
        raise KeyError
    assert torch.backends.quantized.engine == before


def test_an_unknown_engine_is_refused() -> None:
    with (
        pytest.raises(QuantizeError, match="'abacus' is not supported here; supported: "),
        quantized_engine("abacus"),  # type: ignore[arg-type]
    ):
        pass
