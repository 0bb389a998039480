"""The tuner without NNI's processes: asked and answered by the test, as NNI does."""

from pathlib import Path

import pytest

from prune.search.history import Asked, Sample, finished_trials, read_events
from prune.search.tuner import STARTUP_TRIALS, RecordedTpe
from reid_edge.core.errors import PruneError

SPACE = {name: {"_type": "quniform", "_value": [0.1, 1.0, 0.05]} for name in ("a", "b")}
START = {"a": 0.5, "b": 0.5}
TRIALS = STARTUP_TRIALS + 8


def score(sample: Sample) -> float:
    return 1 - (sample["a"] - 0.8) ** 2 - (sample["b"] - 0.4) ** 2


def make(history: Path, seed: int = 1) -> RecordedTpe:
    tuner = RecordedTpe(str(history), START, seed)
    tuner.update_search_space(SPACE)
    return tuner


def search(history: Path, trials: int, at_once: int = 1) -> None:
    """Ask and answer until so many are answered; what is in flight then stays unanswered."""
    tuner, numbers = make(history), iter(range(10**6))
    flying: list[tuple[int, Sample]] = []
    while len(finished_trials(read_events(history))) < trials:
        while len(flying) < at_once:
            number = next(numbers)
            flying.append((number, tuner.generate_parameters(number)))
        number, sample = flying.pop(0)
        tuner.receive_trial_result(number, sample, score(sample))
        tuner.trial_end(number, True)


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("stop_after", [0, 1, STARTUP_TRIALS, TRIALS - 1])
def test_a_stopped_search_ends_as_one_that_was_not(
    tmp_path: Path, at_once: int, stop_after: int
) -> None:
    search(tmp_path / "whole", TRIALS, at_once)
    search(tmp_path / "stopped", stop_after, at_once)
    search(tmp_path / "stopped", TRIALS, at_once)
    assert read_events(tmp_path / "stopped") == read_events(tmp_path / "whole")


def test_a_search_resumes_after_its_number_of_trials_was_raised(tmp_path: Path) -> None:
    search(tmp_path / "whole", TRIALS)
    search(tmp_path / "raised", TRIALS - 5)
    search(tmp_path / "raised", TRIALS)
    assert (tmp_path / "raised").read_bytes() == (tmp_path / "whole").read_bytes()


def test_what_was_in_flight_is_handed_out_again_once(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    first = make(path)
    flying = [first.generate_parameters(number) for number in range(3)]
    second = make(path)
    assert [second.generate_parameters(number) for number in range(3)] == flying
    assert second.generate_parameters(3) not in flying
    assert len(read_events(path)) == 4


def test_a_failed_trial_is_handed_out_again(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    tuner = make(path)
    sample = tuner.generate_parameters(0)
    tuner.trial_end(0, False)
    assert make(path).generate_parameters(0) == sample


def test_the_first_candidate_is_the_given_one_and_none_comes_twice(tmp_path: Path) -> None:
    search(tmp_path / "trials", TRIALS)
    samples = [
        event.sample for event in read_events(tmp_path / "trials") if isinstance(event, Asked)
    ]
    assert samples[0] == START
    assert len({tuple(sample.values()) for sample in samples}) == TRIALS


def test_candidates_get_better_after_the_random_ones(tmp_path: Path) -> None:
    search(tmp_path / "trials", 40)
    scores = [trial.score for trial in finished_trials(read_events(tmp_path / "trials"))]
    later = scores[-STARTUP_TRIALS:]
    assert sum(later) / len(later) > sum(scores[:STARTUP_TRIALS]) / STARTUP_TRIALS
    assert max(scores) > 0.98


def test_another_seed_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "trials", 3)
    with pytest.raises(PruneError, match="trial 1 is not what this search would have asked"):
        make(tmp_path / "trials", seed=2)
