"""One trial: NNI starts ``python -m pipeline.search.trial`` in the task's folder."""

import sys
from pathlib import Path

import torch

from pipeline.search.score import compact_model, mean_average_precision
from pipeline.search.task import read_task
from reid_edge.core.errors import ReidError, one_line


def main() -> int:
    """Ask NNI for a sample, score it, report; return the exit code."""
    import nni

    task = read_task(Path.cwd())
    if task.settings.threads is not None:
        torch.set_num_threads(task.settings.threads)
    try:
        widths = task.space().widths(nni.get_next_parameter())
        score = mean_average_precision(task, compact_model(task, widths))
    except ReidError as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return 1
    nni.report_final_result(score)
    return 0


if __name__ == "__main__":
    sys.exit(main())
