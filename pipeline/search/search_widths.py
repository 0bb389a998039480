"""Search the widths of a run's compact model, from the task to the plan file."""

import logging
import sys
from contextlib import ExitStack

from pipeline.config import Config
from pipeline.run_dir import RunDir
from pipeline.run_log import PACKAGES, log_file
from pipeline.search.outcome import finish
from pipeline.search.set_up import set_up_search
from pipeline.search.task import read_task
from prune.search.experiment import check_node, run_search
from prune.search.history import Trial, best_trial
from prune.search.job import Job
from prune.search.machines import Machine
from reid_edge.core.seeding import derive_seed
from reid_edge.core.tables import output_console

# Only the ratios of proportions matter; the ratio of two variables is at most two.
LOW, HIGH, STEP = 0.5, 1.0, 0.05
UNIFORM = 0.75

logger = logging.getLogger(__name__)


def search_widths(config: Config, run: RunDir) -> None:
    """Search, write ``search/plan.json`` in the run's folder and print the trials.

    Raises:
        PipelineError: the run or its settings do not allow a search.
        PruneError: a trial failed, a machine cannot be used, or NNI's Node is not installed.
    """
    settings = config.search
    found: list[Trial] = []

    def report(trial: Trial) -> None:
        found.append(trial)
        best = best_trial(found)
        logger.info(
            "trial %d of %d: mAP %.1f%% (best so far: %.1f%%, trial %d)",
            trial.number + 1, settings.trials, 100 * trial.score, 100 * best.score, best.number + 1,
        )  # fmt: skip

    check_node()
    run.create()
    with ExitStack() as searching:
        with run.locked():
            search = set_up_search(config, run)
            # Taken before the run's lock is released: another search would move this one away.
            searching.enter_context(RunDir(search.folder).locked())
        searching.enter_context(log_file(search.folder, PACKAGES, sys.argv))
        variables = tuple(search.settings.variables)
        logger.info(
            "search: %d trials of %s below %.1f M MACs",
            settings.trials, ", ".join(variables), search.settings.macs / 1e6,
        )  # fmt: skip
        job = Job(
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
            machines=tuple(Machine(m.address, m.key_file, m.python) for m in settings.machines),
            callback=settings.callback,
        )
        outcome = finish(search.folder, read_task(search.task), run_search(job, report))
    console = output_console()
    console.print(outcome.table)
    plan = f"plan: {outcome.plan} (to prune to it: prune.target={outcome.plan})"
    console.print(plan, markup=False, highlight=False, soft_wrap=True)
