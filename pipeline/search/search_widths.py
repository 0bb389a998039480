"""A search of the widths of a run's compact model, from its tasks to the plan that it leaves."""

import logging
from contextlib import ExitStack

from pipeline.config import Config
from pipeline.report.show import wide_console
from pipeline.run_dir import RunDir
from pipeline.search.outcome import finish
from pipeline.search.prepare import Search, lay_out
from pipeline.search.task import read_task
from pipeline.settings.search import SearchSettings
from prune.search.experiment import run_search
from prune.search.history import Trial, best_trial
from prune.search.job import Job
from prune.search.machines import Machine
from reid_edge.core.seeding import derive_seed

# Only the ratios of proportions count: between two variables at most one to two.
LOW, HIGH, STEP = 0.5, 1.0, 0.05
UNIFORM = 0.75

logger = logging.getLogger(__name__)


def search_widths(config: Config, run: RunDir) -> None:
    """Search, write ``search/plan.json`` in the run's folder and print the trials.

    Raises:
        PipelineError: the run or its settings do not allow a search.
        PruneError: a trial failed, or a machine cannot be used.
    """
    run.create()
    with ExitStack() as searching:
        with run.locked():
            search = lay_out(config, run)
            # Before the run's own lock goes: another search would lay this one aside.
            searching.enter_context(RunDir(search.folder).locked())
        trials = _run(config, search)
        outcome = finish(search.folder, read_task(search.task), trials)
    console = wide_console()
    console.print(outcome.table)
    console.print(
        f"plan: {outcome.plan} (to prune to it: prune.target={outcome.plan})",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _run(config: Config, search: Search) -> list[Trial]:
    settings = config.search
    logger.info(
        "search: %d trials of %s below %.1f M MACs",
        settings.trials,
        ", ".join(search.settings.variables),
        search.settings.macs / 1e6,
    )
    found: list[Trial] = []

    def tell(trial: Trial) -> None:
        found.append(trial)
        best = best_trial(found)
        logger.info(
            "trial %d of %d: mAP %.1f%% (best so far: %.1f%%, trial %d)",
            trial.number + 1,
            settings.trials,
            100 * trial.score,
            100 * best.score,
            best.number + 1,
        )

    return run_search(_job(config, search), tell)


def _job(config: Config, search: Search) -> Job:
    settings, variables = config.search, tuple(search.settings.variables)
    return Job(
        folder=search.folder.resolve(),
        code=search.task.resolve(),
        module="pipeline.search.trial",
        variables=variables,
        low=LOW,
        high=HIGH,
        step=STEP,
        start=dict.fromkeys(variables, UNIFORM),
        seed=derive_seed(config.seed, "search", "tuner"),
        trials=settings.trials,
        concurrency=settings.concurrency,
        machines=tuple(_machines(settings)),
        callback=settings.callback,
    )


def _machines(settings: SearchSettings) -> list[Machine]:
    return [
        Machine(machine.address, machine.key_file, machine.python) for machine in settings.machines
    ]
