"""Runs of the pipeline from Python: :func:`run_pipeline` and :func:`read_run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.run_dir import RunDir
from pipeline.settings_io import load_config
from pipeline.shipped_configs import find_config
from pipeline.stages import default_stages
from reid_edge.core.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.report.contents import Report
    from pipeline.stage import AnyStage, Stages
    from reid_edge.training.world import World


def run_pipeline(
    config: str | Path = "quickstart",
    *,
    stages: str | Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    run: str | Path | None = None,
    restart_from: str | None = None,
    extra_stages: Iterable[AnyStage] = (),
) -> Report:
    """Run stages as ``run_pipeline.py`` does: what is finished and still fits is reused.

    An interrupted run is resumed by the same call, and ends with the same bits. Where torchrun,
    srun or Kubeflow starts several processes of a program, the first one works and returns; the
    others help it, and end here.

    Args:
        config: YAML file with settings, or the name of a configuration of the program, such as
            "osnet_x0_5".
        stages: names of the stages to run, in order, as a sequence or separated by commas; by
            default those of the configuration.
        settings: further settings by full name, such as ``{"train.epochs": 60}``; they win over
            the configuration.
        run: folder of the run; by default ``runs/<name of the configuration>``.
        restart_from: run this stage and those after it again.
        extra_stages: declarations that need not be registered; one with the name of a known stage
            takes its place.

    Returns:
        The results of the run, also of stages that were reused.

    Raises:
        PipelineError: a file, setting, stage or the run's folder cannot be used as it is.
        ReidError: what a stage needs is not there, or does not fit; the message says what to do.

    Example:
        >>> report = run_pipeline(
        ...     "osnet_x0_5",
        ...     settings={"data.root": "/path/to/Market-1501", "train.pretrained": "x1_0.pth"},
        ...     run="runs/mine",
        ... )
        >>> report.rows[-1].accuracy["mAP"]
    """
    from pipeline.followed_run import at_work, run_followed
    from pipeline.ranks import launch_of, run_ranks

    path = find_config(Path(config))
    chosen = load_config(
        path,
        stages=stages if stages is None or isinstance(stages, str) else ",".join(stages),
        declared=_with(extra_stages),
        values=settings or {},
    )
    folder = RunDir(Path(run) if run is not None else Path("runs") / chosen.name, chosen.declared)
    reports = []

    def carry_out(world: World | None) -> None:
        with at_work(folder):
            reports.append(run_followed(chosen, folder, restart_from=restart_from, world=world))

    code = run_ranks(launch_of(chosen), chosen, folder, carry_out)
    if not reports:
        raise SystemExit(code)
    return reports[0]


def read_run(run: str | Path, *, extra_stages: Iterable[AnyStage] = ()) -> Report:
    """Read the results of a run; nothing is run or written.

    Args:
        run: its folder.
        extra_stages: declarations of stages that are not registered.

    Raises:
        PipelineError: there is no run, or its settings cannot be read.
    """
    from pipeline.report.contents import collect

    folder = RunDir(Path(run), _with(extra_stages))
    if not folder.config_path.is_file():
        raise PipelineError(f"{run}: no run there (no config.yaml in it)")
    return collect(load_config(folder.config_path, declared=folder.stages), folder)


def _with(extra: Iterable[AnyStage]) -> Stages:
    stages = default_stages()
    for stage in extra:
        stages = stages.with_stage(stage)
    return stages
