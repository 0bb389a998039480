"""Everything that a run's folder tells, as plain data."""

from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.evaluation import headline
from pipeline.latency import model_records, valid_latency
from pipeline.reuse import stale_records
from pipeline.run_dir import RunDir, StageRecord
from pipeline.settings.stage_names import STAGES
from pipeline.widths import CUTTING_STAGES
from prune.report import IterationReport, read_report
from reid_edge.core.io import write_json

REPORT_JSON = "report.json"


def collect(config: Config, run: RunDir, *, shown: Config | None = None) -> dict[str, Any]:
    """Gather the rows of the closing table, the iterations, the int8 report and the latency.

    Args:
        config: the run's settings, by which a stage may be stale.
        run: the run's folder.
        shown: other settings that choose the accuracy columns and their distance.
    """
    records = [record for stage in STAGES if (record := run.record(stage)) is not None]
    latency = valid_latency(run)
    stale = stale_records(config, run)
    config = shown or config
    measured = [r for r in records if r.stage == "benchmark" and r.stage not in stale]
    exported = [r for r in records if r.stage == "export" and r.stage not in stale]
    return {
        "name": config.name,
        "task": config.evaluation.task,
        "distance": config.evaluation.distance,
        "protocol": _protocol(run, config),
        "has_cameras": _has_cameras(run),
        "images": str(config.data.root) if config.data.root else "synthetic pedestrians",
        "rows": [
            _row(record, config, latency) | {"stale": stale.get(record.stage, "")}
            for record in model_records(run)
        ],
        "iterations": [report.model_dump(mode="json") for report in iteration_reports(run)],
        "quantization": next(
            (r.result.get("quantization") for r in records if r.stage == "quantize"), None
        ),
        "files": next((r.result["files"] for r in exported), None),
        # Of files that are no more, what was measured says nothing.
        "benchmark": next((r.result["benchmark"] for r in measured), None),
        "machine": latency.get("machine", {}),
        "latency": latency.get("stages", {}),
        "versions": records[-1].versions if records else {},
        "seed": config.seed,
    }


def _protocol(run: RunDir, config: Config) -> str:
    metrics = [record.result["metrics"] for record in model_records(run)]
    return next((m[config.evaluation.distance]["protocol"] for m in metrics), "market1501")


def _has_cameras(run: RunDir) -> bool:
    # A run of an earlier version has not noted it.
    return all(record.result["metrics"].get("has_cameras", True) for record in model_records(run))


def write_story(run: RunDir, story: dict[str, Any]) -> None:
    """Write ``report.json``."""
    write_json(run.path / REPORT_JSON, story)


def _row(record: StageRecord, config: Config, latency: dict[str, Any]) -> dict[str, Any]:
    result = record.result
    measured = latency.get("stages", {}).get(record.stage, {})
    return {
        "stage": record.stage,
        "model": result["model"],
        "input_size": list(record.input_size),
        "file": result["file"],
        "parameters": result["parameters"],
        "macs": result["macs"],
        "bytes": result["bytes"],
        **headline(result["metrics"], config),
        "verification": result["metrics"].get("verification"),
        "latency_ms": measured.get("median_ms"),
        "latency_spread_ms": measured.get("spread_ms"),
        "latency_ratio": measured.get("ratio"),
        "seconds": record.seconds,
        "continued": record.continued,
        "note": result.get("note", ""),
    }


def iteration_reports(run: RunDir) -> list[IterationReport]:
    """Read the finished cuts of a run: that of transfer, those of prune in order."""
    found: list[Path] = []
    for stage in CUTTING_STAGES:
        paths = run.stage_dir(stage).glob("iteration_*/report.json")
        found += sorted((path for path in paths if _number(path)), key=_number)
    return [read_report(path) for path in found]


def _number(path: Path) -> int:
    """Return which cut a report is of, or 0 if its folder is none of ours."""
    number = path.parent.name.removeprefix("iteration_")
    return int(number) if number.isdecimal() else 0
