"""The commands that the harness breaks: runs of all stages on tiny networks, and an enrolment."""

from dataclasses import dataclass
from pathlib import Path

from tests.reliability.processes import Main

TRAINING = "{epochs: 2, identities_per_batch: 4, images_per_identity: 3}"
CONFIG = """
name: reliability
threads: 1
stages: [{stages}]
data: {{root: {root}, height: 64, width: 32, workers: 1}}
model: {{architecture: {architecture}, embedding_dim: 32}}
train: {training}
transfer: {{target: {narrow}, tuning: {training}}}
prune:
  target: {narrow}
  iterations: 2
  reconstruction_images: 16
  recalibration_images: 16
  tuning: {training}
finetune: {training}
resize: {{epochs: 1, identities_per_batch: 4, images_per_identity: 3, height: 48, width: 32}}
quantize: {quantize}
latency: {{rounds: 2}}
benchmark: {{rounds: 2, batches: [1], threads: [1]}}
"""
PRUNE = "train, prune, finetune, resize, quantize, export, benchmark"
TRANSFER = "train, transfer, finetune, quantize, export"


@dataclass(frozen=True)
class Command:
    """A command, and the folder that it fills.

    Attributes:
        name: in the table.
        main: what runs it.
        arguments: with ``{folder}`` where the folder's path belongs.
    """

    name: str
    main: Main
    arguments: tuple[str, ...]

    def fill(self, folder: Path) -> list[str]:
        """Return the arguments for a folder."""
        return [argument.replace("{folder}", str(folder)) for argument in self.arguments]


def pipeline_commands(images: Path, folder: Path, *, short: bool) -> dict[str, Command]:
    """Write configurations that have all stages between them, and return their commands.

    Args:
        images: the data set.
        folder: for the configurations.
        short: of a network of four convolutions, which the caller has registered.
    """
    from pipeline.command import main

    architecture, narrow = (
        ("small_net", "small_net_x0_5") if short else ("osnet_x0_5", "osnet_x0_25")
    )
    commands = {}
    for name, stages, quantize in (
        ("prune", PRUNE, "{calibration_images: 8}"),
        (
            "transfer",
            TRANSFER,
            f"{{mode: qat, calibration_images: 8, held_back_images: 8, qat: {TRAINING}}}",
        ),
    ):
        path = folder / f"{name}.yaml"
        path.write_text(
            CONFIG.format(
                stages=stages,
                root=images,
                training=TRAINING,
                quantize=quantize,
                architecture=architecture,
                narrow=narrow,
            )
        )
        arguments = ("--config", str(path), "--run", "{folder}")
        commands[name] = Command(f"run_pipeline ({name})", main, arguments)
    return commands


def enrol_command(model: Path, images: Path) -> Command:
    """Return the command that enrols a folder of images."""
    from reid_edge.cli.main import main

    arguments = (
        "enrol",
        "--weights",
        str(model),
        "--gallery-dir",
        str(images),
        "--index",
        "{folder}",
    )
    return Command("reid-edge enrol", main, arguments)
