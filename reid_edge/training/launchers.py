"""Programs that start one process for each device, such as Slurm's ``srun`` and ``torchrun``."""

import os
from collections.abc import Mapping

from reid_edge.core.errors import TrainingError

# Variables that say that another program starts the processes, and that program.
LAUNCHERS = {
    "TORCHELASTIC_RUN_ID": "torchrun",
    "SLURM_NTASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "LSB_DJOB_RANKFILE": "LSF",
    "LOCAL_RANK": "a program that sets LOCAL_RANK",
}
# Lightning takes these Slurm jobs for a shell.
SHELLS = ("bash", "interactive")


def check_launcher(devices: int, environment: Mapping[str, str] | None = None) -> None:
    """Check that no other program starts the processes of a training.

    In a task of such a program, every process that is started here takes itself for the first one:
    each trains a model of its own on its share of the batches.

    Args:
        devices: processes that train together.
        environment: variables; by default those of this process.

    Raises:
        TrainingError: several devices are asked for in a task of such a program.
    """
    given = os.environ if environment is None else environment
    if devices == 1:
        return
    for variable, program in LAUNCHERS.items():
        is_shell = variable == "SLURM_NTASKS" and given.get("SLURM_JOB_NAME") in SHELLS
        if variable in given and not is_shell:
            raise TrainingError(
                f"devices: {devices} processes cannot be started in a task of {program} "
                f"({variable} is set), where they would train separate models; start the command "
                f"once and without it (env -u {variable} ...), or give devices=1"
            )
