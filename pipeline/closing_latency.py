"""The latency of the model of every stage, measured together at the end of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.run_dir import RunDir
from pipeline.stage_results import Latencies, ModelLatency, StageRecord
from reid_edge.core.io import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.config import Config
    from quantize.measurements import Machine
    from quantize.timing import Candidate

LATENCY_FILE = "latency.json"
WARMUP = 3

logger = logging.getLogger(__name__)


def measure_run(config: Config, run: RunDir) -> None:
    """Time the model of every finished stage at batch 1 and write ``latency.json``.

    Nothing is measured again if the file exists and the models, the settings, the processor and
    PyTorch are the same. Models whose files are missing are left out.
    """
    from quantize.machine import machine_description
    from quantize.timing import measure_latency

    settings = config.latency
    records: list[StageRecord] = []
    for record in model_records(run):
        assert record.result.model is not None
        path = run.path / record.result.model.file
        if path.is_file():
            records.append(record)
        else:
            logger.warning("latency: %s is gone and is not timed", path)
    outputs = {record.stage: record.outputs for record in records}
    machine = replace(machine_description(), threads=settings.threads)
    former = read_latency(run)
    if (
        former is not None
        and _what_counts(former.machine) == _what_counts(machine)
        and (former.outputs, former.rounds, former.threads)
        == (outputs, settings.rounds, settings.threads)
    ):
        return
    logger.info("latency: %d rounds over %d models", settings.rounds, len(records))
    candidates: dict[tuple[str, str | None], Candidate] = {}
    for record in records:
        for engine, candidate in _candidates(run, record).items():
            candidates[record.stage, engine] = candidate
    times = measure_latency(
        {str(key): candidate for key, candidate in candidates.items()},
        rounds=settings.rounds,
        warmup=WARMUP,
        threads=settings.threads,
    )
    models = [
        ModelLatency(
            stage=stage,
            engine=engine,
            median_ms=latency.median_ms,
            spread_ms=latency.upper_quartile_ms - latency.lower_quartile_ms,
            ratio=latency.ratio,
        )
        for (stage, engine), latency in zip(candidates, times.values(), strict=True)
    ]
    measured = Latencies(
        machine=machine,
        outputs=outputs,
        rounds=settings.rounds,
        threads=settings.threads,
        models=tuple(models),
    )
    write_bytes(run.path / LATENCY_FILE, measured.to_json())


def model_records(run: RunDir) -> list[StageRecord]:
    """Return the records of the finished stages that made one model each."""
    return [record for record in run.records().values() if record.result.model is not None]


def valid_latency(run: RunDir) -> Latencies | None:
    """Return the latencies of the files that have not changed, or None.

    Ratios refer to the first model, so nothing is valid without it.
    """
    found = read_latency(run)
    if found is None or not found.models:
        return None
    same = {r.stage for r in model_records(run) if found.outputs.get(r.stage) == r.outputs}
    if found.models[0].stage not in same:
        return None
    models = tuple(model for model in found.models if model.stage in same)
    return found.model_copy(update={"models": models})


def read_latency(run: RunDir) -> Latencies | None:
    """Return what was measured, or None if there is nothing that can be read."""
    try:
        return Latencies.model_validate_json((run.path / LATENCY_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _what_counts(machine: Machine) -> tuple[object, ...]:
    """Return the parts of a machine's description that latency depends on.

    All models run in PyTorch here. The number of cores is left out: it may differ between shells.
    """
    return (
        machine.cpu,
        machine.architecture,
        machine.flags,
        machine.torch,
        machine.torch_capability,
    )


def _candidates(run: RunDir, record: StageRecord) -> dict[str | None, Candidate]:
    """Return the calls to time: the model on its own engine (None), and on this machine's."""
    from torch import zeros

    from pipeline.model_files import ON_PC
    from quantize.timing import Candidate
    from reid_edge.core.int8_engine import supported_engines
    from reid_edge.inference.backends.torchscript_runtime import load_torchscript
    from reid_edge.models.checkpoint import load_checkpoint

    model = record.result.model
    assert model is not None, "only stages with a model are timed"
    path, example = run.path / model.file, zeros(1, 3, *record.input_size)
    if model.engine is None:
        return {None: Candidate(_call(load_checkpoint(path)[0], example))}
    own = model.engine
    found: dict[str | None, Candidate] = {
        None: Candidate(_call(load_torchscript(path, own)[0], example), own)
    }
    if own != ON_PC and ON_PC in supported_engines():
        other = load_torchscript(path, ON_PC)[0]
        found[ON_PC] = Candidate(_call(other, example), ON_PC)
    return found


def _call(model: nn.Module, example: Tensor) -> Callable[[], object]:
    return lambda: model(example)
