"""The closing measurement: the model of every stage, in turn, in one go."""

import json
import logging
from typing import Any

from torch import Tensor, nn, zeros

from pipeline.config import Config
from pipeline.model_files import ON_PC
from pipeline.run_dir import RunDir, StageRecord
from pipeline.settings.stage_names import STAGES
from quantize.engine import Engine, supported_engines
from quantize.latency import Candidate, measure_latency
from quantize.machine import machine_description
from quantize.torchscript import load_torchscript
from reid.files import write_json
from reid.models.checkpoint import load_checkpoint

LATENCY_FILE = "latency.json"
WARMUP = 3

logger = logging.getLogger(__name__)


def measure_run(config: Config, run: RunDir) -> None:
    """Time the model of every finished stage that made one at batch 1 and write ``latency.json``.

    Nothing is measured again while the files, the settings, the processor and PyTorch are the same;
    without the file, it is.
    """
    records = model_records(run)
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


def model_records(run: RunDir) -> list[StageRecord]:
    """Return the records of the finished stages that made one model each."""
    records = (run.record(stage) for stage in STAGES)
    return [record for record in records if record is not None and "file" in record.result]


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
    path = run.path / record.result["file"]
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
