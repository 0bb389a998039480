"""The command line of ``run_pipeline.py``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.run_log import PACKAGES
from pipeline.shipped_configs import find_config
from pipeline.stages import STAGES
from pipeline.without_identities import CONFIG
from reid_edge.cli.guard import Guard, Parser, path_argument
from reid_edge.core.errors import PipelineError, reason_of
from reid_edge.core.packages import how_to_install, missing_packages
from reid_edge.data.readers import READERS
from reid_edge.training.launchers import is_first_here

# What is slow to import is imported when the command runs: --help and a typing error come at once.
if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.plan import Plan
    from pipeline.run_dir import RunDir
    from reid_edge.data.schema import ReidData
    from reid_edge.training.world import World

GUARD = Guard(
    packages=PACKAGES,
    timestamps=True,
    interrupted="interrupted; the same command resumes from here",
    file_hint="make room or give rights there, then the same command again",
    memory_hint=(
        "lower data.evaluation_batch, the stage's identities_per_batch, or its "
        "reconstruction_images where it cuts"
    ),
    process_hint="lower the stage's identities_per_batch or devices, then the same command again",
    worker_hint="data.workers=0",
)
run_guarded = GUARD.run
QUICKSTART = Path("configs/quickstart.yaml")
WITHOUT_LABELS = Path(CONFIG)

logger = logging.getLogger("pipeline")


def main(arguments: Sequence[str], prog: str = "run_pipeline.py") -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: without the program's name.
        prog: what the command is called.
    """
    options = parse_arguments(arguments, prog)
    first = is_first_here()

    def command() -> int:
        check_extra(prog)
        if (options.report or options.plan) and not first:
            return 0
        if options.report:
            run = run_to_report(options)
            from pipeline.report.show import show_report

            show_report(run, options.overrides, layers=options.layers)
            return 0
        config, run = resolve(options)
        if options.restart is not None and options.restart not in STAGES:
            raise PipelineError(
                f"--from {options.restart}: unknown stage; stages are {', '.join(STAGES)}"
            )
        from pipeline.ranks import launch_of, run_ranks

        work = partial(_run_or_plan, options, [prog, *arguments], config, run)
        if options.plan:
            work(None)
            return 0
        return run_ranks(launch_of(config), config, run, work)

    # What fails on every process of a machine alike is shown once.
    return run_guarded(command, options) if first else replace(GUARD, silent=True).run(command)


def _run_or_plan(
    options: argparse.Namespace,
    words: Sequence[str],
    config: Config,
    run: RunDir,
    world: World | None,
) -> None:
    """Show the plan, or run the stages.

    Args:
        options: of the command.
        words: its command line.
        config: all settings.
        run: the run's folder.
        world: the processes that train together, if another program started them.
    """
    run.check()
    from pipeline.preflight import check_choices

    check_choices(config)

    if options.plan:
        from pipeline.report.show import show_plan

        show_plan(config, run, restart_from=options.restart, layers=options.layers)
        return
    from pipeline.followed_run import at_work, run_followed
    from pipeline.report.show import print_results
    from pipeline.run_clock import RunClock
    from pipeline.time_estimate import estimate_times

    clock = RunClock()

    def planned(plan: Plan, data: ReidData, data_hash: str) -> None:
        try:
            estimates = estimate_times(config, run, plan, data, data_hash)
            clock.plan({stage: estimate.seconds for stage, estimate in estimates.items()})
        except Exception as error:
            # Hours of training must not end because of an estimate.
            logger.warning("the time left cannot be estimated (%s)", reason_of(error))

    with at_work(run, words):
        run_followed(
            config,
            run,
            restart_from=options.restart,
            world=world,
            planned=planned,
            at=clock.at,
            headline=clock.headline,
            quiet=options.quiet,
            finished=print_results,
        )


def parse_arguments(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog=prog,
        description="Make a person re-identification model small and fast, step by step.",
        epilog="Without --config it runs configs/quickstart.yaml on synthetic images; with "
        "data.format=unlabelled or tracklets configs/without_labels.yaml.",
        settings=known_settings,
    )
    parser.add_argument("--stages", help=f"comma-separated: {','.join(STAGES)}")
    add_config_option(parser)
    parser.add_argument("--run", type=path_argument, help="the run's folder (default: runs/<name>)")
    parser.add_argument(
        "--from", dest="restart", metavar="STAGE", help="run this stage and those after it again"
    )
    parser.add_argument("--plan", action="store_true", help="show what would run and why")
    parser.add_argument("--report", action="store_true", help="show the tables of the run")
    parser.add_argument(
        "--layers", action="store_true", help="with --plan and --report: every layer, too"
    )
    parser.add_log_options()
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings")
    return parser.parse_intermixed_args(arguments)


def known_settings() -> list[str]:
    """Return the names of all settings."""
    from pipeline.settings_io import setting_keys

    return list(setting_keys())


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a configuration, and the one by which Hydra names it."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--config", type=path_argument, metavar="FILE",
        help="YAML file with settings, or the name of one in configs/, such as osnet_x0_5",
    )  # fmt: skip
    either.add_argument(
        "--config-name", "-cn", dest="config", metavar="NAME",
        type=lambda name: path_argument(f"configs/{name.removesuffix('.yaml')}.yaml"),
        help="name of a YAML file in configs/, as Hydra takes it",
    )  # fmt: skip


def check_extra(prog: str) -> None:
    """Check that the packages of the extra ``compress`` are installed.

    Raises:
        PipelineError: one of them is not.
    """
    if missing_packages(("torch", "lightning", "nni")):
        raise PipelineError(
            f"{prog} needs PyTorch, Lightning and NNI: {how_to_install('compress')}"
        )


def check_given(models: Sequence[Path], images: Path | None = None) -> None:
    """Check model files and a folder of images, before PyTorch is imported, which takes seconds.

    Raises:
        CheckpointError: a model file is missing, or of no kind that is known.
        DataError: there is no such folder.
    """
    from reid_edge.core.backends import recognise
    from reid_edge.data.paths import existing_folder

    for model in models:
        recognise(model)
    if images is not None:
        existing_folder(images)


def resolve(options: argparse.Namespace) -> tuple[Config, RunDir]:
    """Find the configuration and the run's folder that the options mean.

    Raises:
        PipelineError: there is no such configuration or run, or a setting is wrong.
    """
    from pipeline.run_dir import RunDir
    from pipeline.settings_io import load_config

    path, stages = options.config, options.stages
    if path is None and options.run is not None and (options.run / "config.yaml").is_file():
        path = options.run / "config.yaml"
    if path is None and options.run is not None:
        raise PipelineError(f"{options.run}: no run there; give --config FILE to begin one")
    chosen = path is not None
    if path is None:
        path = default_config(options.overrides)
    config = load_config(find_config(path), options.overrides, stages)
    if not chosen:
        logger.info("no --config: taking %s", path)
    if config.data.root is None:
        logger.info(
            "no data.root: the images are synthetic pedestrians; for your own: "
            "--config configs/osnet_x0_5.yaml data.root=/path/to/Market-1501"
        )
    run = RunDir(options.run if options.run is not None else Path("runs") / config.name)
    return config, run


def default_config(overrides: Sequence[str]) -> Path:
    """Return the configuration of a command that names none: by the layout of the images."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "data.format" and value in READERS and READERS.load(value).labels != "persons":
            return WITHOUT_LABELS
    return QUICKSTART


def run_to_report(options: argparse.Namespace) -> RunDir:
    """Find the run that ``--report`` means.

    Raises:
        PipelineError: there is no such run, or another option does not go with ``--report``.
    """
    from pipeline.run_dir import RunDir

    if options.run is None:
        raise PipelineError("--report needs --run FOLDER, the run to report on")
    for name in ("config", "stages", "restart"):
        if getattr(options, name) is not None:
            flag = "from" if name == "restart" else name
            raise PipelineError(
                f"--{flag}: --report shows what the run has, with its own settings; leave it out"
            )
    run = RunDir(options.run)
    if not run.config_path.is_file():
        raise PipelineError(f"{options.run}: no run there (no config.yaml in it)")
    return run
