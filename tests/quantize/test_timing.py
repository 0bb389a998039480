import pytest
import torch

from quantize.timing import Candidate, measure_latency
from reid_edge.core.errors import QuantizeError
from reid_edge.core.int8_engine import supported_engines


def test_candidates_are_called_in_turns_and_the_settings_put_back() -> None:
    calls: list[str] = []
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    other = supported_engines()[0]
    seen: list[tuple[int, str]] = []

    def second() -> None:
        calls.append("b")
        seen.append((torch.get_num_threads(), torch.backends.quantized.engine))

    result = measure_latency(
        {"a": Candidate(lambda: calls.append("a")), "b": Candidate(second, other)},
        rounds=4,
        warmup=2,
        threads=1,
    )
    assert calls == ["a", "b"] * 6
    assert set(seen) == {(1, other)}
    assert (torch.get_num_threads(), torch.backends.quantized.engine) == (threads, engine)
    assert list(result) == ["a", "b"]
    assert result["a"].ratio == 1
    for latency in result.values():
        assert 0 < latency.lower_quartile_ms <= latency.median_ms <= latency.upper_quartile_ms


def test_settings_are_put_back_when_a_candidate_fails() -> None:
    threads = torch.get_num_threads()

    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        measure_latency({"a": Candidate(fail)}, threads=threads + 1)
    assert torch.get_num_threads() == threads


def test_refusals() -> None:
    with pytest.raises(QuantizeError, match="no candidates"):
        measure_latency({})
    with pytest.raises(QuantizeError, match="at least 2 rounds"):
        measure_latency({"a": Candidate(lambda: None)}, rounds=1)
