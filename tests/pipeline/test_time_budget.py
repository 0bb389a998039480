"""Epochs that fit into a time budget."""

import pytest

from pipeline.time_budget import (
    PLANNED_SHARE,
    Passes,
    Speeds,
    Work,
    adapt_epoch,
    choose_passes,
    finetune_epoch,
    overhead,
)
from reid_edge.core.errors import PipelineError

SPEEDS = Speeds(
    load=0.001, embed=0.002, adapt=0.01, finetune=0.006, cluster=0.001, precision="32-true"
)
WORK = Work(images=4000, apart=1000)


def spent(passes: Passes, work: Work = WORK) -> float:
    return (
        overhead(SPEEDS, work)
        + passes.adapt * adapt_epoch(SPEEDS, work)
        + (passes.tuning + passes.finetune) * finetune_epoch(SPEEDS, work)
    )


@pytest.mark.parametrize("hours", [0.2, 0.25, 0.5, 1, 2, 4])
def test_the_planned_time_is_kept_and_used(hours: float) -> None:
    passes = choose_passes(SPEEDS, WORK, 3600 * hours)
    planned = PLANNED_SHARE * 3600 * hours
    assert passes.seconds == pytest.approx(spent(passes))
    assert passes.seconds <= planned
    assert passes.tuning >= 1
    assert passes.finetune >= 1
    more = passes.tuning + passes.finetune == 40
    assert more or planned - passes.seconds < finetune_epoch(SPEEDS, WORK)


def test_an_adaptation_embeds_in_its_own_arithmetic() -> None:
    fast = SPEEDS.model_copy(update={"adapt_embed": 0.0005})
    saved = adapt_epoch(SPEEDS, WORK) - adapt_epoch(fast, WORK)
    assert saved == pytest.approx(4000 * 0.0015)
    assert overhead(fast, WORK) == overhead(SPEEDS, WORK)
    assert choose_passes(fast, WORK, 1800).adapt > choose_passes(SPEEDS, WORK, 1800).adapt


def test_more_time_never_means_fewer_passes() -> None:
    chosen = [choose_passes(SPEEDS, WORK, 3600 * hours) for hours in (0.5, 1, 2, 4, 8)]
    assert [one.adapt for one in chosen] == sorted(one.adapt for one in chosen)
    assert (chosen[-1].adapt, chosen[-1].tuning, chosen[-1].finetune) == (10, 12, 28)


def test_the_adaptation_is_left_out_where_there_is_no_time_or_no_wish_for_it() -> None:
    assert choose_passes(SPEEDS, WORK, 3600 * 0.15).adapt == 0
    assert choose_passes(SPEEDS, WORK, 3600 * 1).adapt >= 2
    assert choose_passes(SPEEDS, Work(4000, 1000, adapts=False), 3600 * 1).adapt == 0


def test_too_short_a_time_is_refused_with_the_time_that_it_takes() -> None:
    with pytest.raises(PipelineError) as raised:
        choose_passes(SPEEDS, WORK, 3600 * 0.01)
    text = str(raised.value)
    assert text.startswith("--hours 0.01: 4,000 images take 0.13 hours at least on this machine;")
    enough = float(text.partition("give --hours ")[2].partition(",")[0])
    passes = choose_passes(SPEEDS, WORK, 3600 * enough)
    assert passes.tuning + passes.finetune in (2, 3)
