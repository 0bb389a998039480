"""``reid-edge models``: the architectures, with their size and cost."""

import argparse
import gc

HELP = "list the architectures with their parameters, operations, input and embedding"
HEADINGS = ("architecture", "parameters", "MACs", "input", "embedding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--height", type=int, default=256, help="input rows (default: 256)")
    parser.add_argument("--width", type=int, default=128, help="input columns (default: 128)")
    parser.epilog = (
        "Parameters are counted without the classifier, which is not needed after training. MACs "
        "are the multiply-accumulates of convolutions and linear layers, for one image."
    )


def run(options: argparse.Namespace) -> int:
    """Print the table.

    Returns:
        0.

    Raises:
        ModelError: the input is too small.
    """
    # Where architectures are built, looking for garbage among them takes a quarter of the time.
    collects = gc.isenabled()
    gc.disable()
    from reid_edge.core.tables import FittingTable, output_console
    from reid_edge.models.complexity import counted_complexity, measure_complexity
    from reid_edge.models.registry import ARCHITECTURES

    counted = counted_complexity(options.height, options.width)
    rows = []
    try:
        for name in ARCHITECTURES:
            found = counted.get(name) or measure_complexity(name, options.height, options.width)
            rows.append(
                (
                    name,
                    f"{found.parameters:,}",
                    f"{found.macs / 1e6:,.1f} M",
                    f"{options.height} x {options.width}",
                    str(found.embedding_dim),
                )
            )
    finally:
        if collects:
            gc.enable()
    output_console().print(FittingTable("", HEADINGS, rows, drop=["input"]))
    return 0
