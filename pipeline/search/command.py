"""The command line of ``python -m pipeline.search``."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack

from pipeline.command import Parser, resolve, run_guarded, written_path
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


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 when interrupted."""
    options = _parse(arguments)
    return run_guarded(lambda: _search(options))


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = Parser(
        prog="python -m pipeline.search",
        description="Search the widths of a compact model under a limit of operations, scored by "
        "mAP on held-back training identities after reconstruction, without training. Leaves "
        "search/plan.json in the run's folder. The same command again goes on, after an "
        "interruption or with more search.trials.",
    )
    parser.add_argument("--config", type=written_path, help="YAML file with settings, see configs/")
    parser.add_argument(
        "--run", type=written_path, required=True, help="a run whose stage train is done"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings")
    parser.set_defaults(stages=None)
    return parser.parse_intermixed_args(arguments)


def _search(options: Namespace) -> None:
    config, run = resolve(options)
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
