"""The closing measurement: the model of every stage, in turn, in one go."""

import json
import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn, zeros

from pipeline.config import Config
from pipeline.model_files import ON_PC
from pipeline.run_dir import RunDir, StageRecord
from pipeline.settings.stage_names import STAGES
from quantize.latency import Candidate, measure_latency
from quantize.machine import machine_description
from reid_edge.core.int8_engine import Engine, supported_engines
from reid_edge.core.io import write_json
from reid_edge.inference.backends.torchscript_runtime import load_torchscript
from reid_edge.models.checkpoint import load_checkpoint

LATENCY_FILE = "latency.json"
WARMUP = 3

logger = logging.getLogger(__name__)


def measure_run(config: Config, run: RunDir) -> None:
    """Time the model of every finished stage that made one at batch 1 and write ``latency.json``.

    Nothing is measured again while the files, the settings, the processor and PyTorch are the same;
    without the file, it is. A model that is gone, which may be that of a stage that no longer fits,
    is left out.
    """
    records = [record for record in model_records(run) if _is_there(run, record)]
    measured = {
        "outputs": {record.stage: record.outputs for record in records},
        "settings": config.latency.model_dump(mode="json"),
    }
    machine = machine_description() | {"threads": config.latency.threads}
    former = read_latency(run)
    same_machine = _what_counts(former.get("machine")) == _what_counts(machine)
    if same_machine and all(former.get(key) == value for key, value in measured.items()):
        return
    logger.info("latency: %d rounds over %d models", config.latency.rounds, len(records))
    candidates: dict[str, Candidate] = {}
    for record in records:
        candidates |= _candidates(run, record, zeros(1, 3, *record.input_size))
    times = measure_latency(
        candidates,
        rounds=config.latency.rounds,
        warmup=WARMUP,
        threads=config.latency.threads,
    )
    content = measured | {
        "stages": {
            name: {
                "median_ms": latency.median_ms,
                "spread_ms": latency.upper_quartile_ms - latency.lower_quartile_ms,
                "ratio": latency.ratio,
            }
            for name, latency in times.items()
        },
        "machine": machine,
    }
    write_json(run.path / LATENCY_FILE, content)


def _is_there(run: RunDir, record: StageRecord) -> bool:
    path = _model_path(run, record)
    there = path.is_file()
    if not there:
        logger.warning("latency: %s is gone and is not timed", path)
    return there


def _model_path(run: RunDir, record: StageRecord) -> Path:
    return run.path / str(record.result["file"])


def model_records(run: RunDir) -> list[StageRecord]:
    """Return the records of the finished stages that made one model each."""
    records = (run.record(stage) for stage in STAGES)
    return [record for record in records if record is not None and "file" in record.result]


def valid_latency(run: RunDir) -> dict[str, Any]:
    """Return what was measured of files that are still there, or an empty dictionary.

    Ratios are to the first model, so without that one nothing counts.
    """
    content = read_latency(run)
    timed, stages = content.get("outputs", {}), content.get("stages", {})
    same = {r.stage for r in model_records(run) if timed.get(r.stage) == r.outputs}
    if next(iter(stages), None) not in same:
        return {}
    of = {name: name.partition(", ")[0] for name in stages}
    return content | {"stages": {name: stages[name] for name in stages if of[name] in same}}


def read_latency(run: RunDir) -> dict[str, Any]:
    """Return what was measured, or an empty dictionary."""
    try:
        content = json.loads((run.path / LATENCY_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _what_counts(machine: object) -> list[Any] | None:
    """Return what times depend on of a machine's description; None where there is none.

    All models run in PyTorch here. The number of cores may be another in every shell.
    """
    counts = ("cpu", "architecture", "flags", "torch", "torch_capability")
    return [machine.get(key) for key in counts] if isinstance(machine, dict) else None


def _candidates(run: RunDir, record: StageRecord, example: Tensor) -> dict[str, Candidate]:
    path = _model_path(run, record)
    if record.stage != "quantize":
        return {record.stage: Candidate(_call(load_checkpoint(path)[0], example))}
    engine: Engine = record.settings["quantize"]["engine"]
    found = {record.stage: Candidate(_call(load_torchscript(path, engine)[0], example), engine)}
    if engine != ON_PC and ON_PC in supported_engines():
        other = load_torchscript(path, ON_PC)[0]
        found[f"{record.stage}, {ON_PC}"] = Candidate(_call(other, example), ON_PC)
    return found


def _call(model: nn.Module, example: Tensor) -> Any:
    return lambda: model(example)
