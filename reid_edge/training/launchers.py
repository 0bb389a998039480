"""Programs that start one process for each device, such as Slurm's ``srun`` and ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reid_edge.core.errors import TrainingError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

# Variables that say that another program starts the processes, and that program.
LAUNCHERS = {
    "TORCHELASTIC_RUN_ID": "torchrun",
    "SLURM_NTASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "LSB_DJOB_RANKFILE": "LSF",
    "LOCAL_RANK": "a program that sets LOCAL_RANK",
}
# Variables with the rank, the rank on this machine, the number of processes, and the number of them
# on a machine or of machines, by the variable of the launcher.
PLACES = {
    "TORCHELASTIC_RUN_ID": ("RANK", "LOCAL_RANK", "WORLD_SIZE"),
    "SLURM_NTASKS": ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
}
# Where these are set and LOCAL_RANK is not, each machine has one process, as Kubeflow's PyTorchJob
# starts them.
ONE_A_MACHINE = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
# Lightning takes these Slurm jobs for a shell.
SHELLS = ("bash", "interactive")


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that another program started.

    Attributes:
        program: that started them.
        variable: by which it is known.
        rank: of this process, from 0.
        local_rank: among the processes of this machine, from 0.
        devices: processes on each machine.
        num_nodes: machines.
    """

    program: str
    variable: str
    rank: int
    local_rank: int
    devices: int
    num_nodes: int

    @property
    def size(self) -> int:
        """Return the number of processes."""
        return self.devices * self.num_nodes

    def cluster_environment(self) -> ClusterEnvironment:
        """Return Lightning's description of the launcher."""
        from lightning.fabric.plugins.environments import kubeflow, lightning, slurm, torchelastic

        classes: dict[str, type[ClusterEnvironment]] = {
            "TORCHELASTIC_RUN_ID": torchelastic.TorchElasticEnvironment,
            "SLURM_NTASKS": slurm.SLURMEnvironment,
            "LOCAL_RANK": lightning.LightningEnvironment,
            "WORLD_SIZE": kubeflow.KubeflowEnvironment,  # Lightning does not find it by itself
        }
        return classes[self.variable]()


def find_launch(
    devices: int, num_nodes: int = 1, environment: Mapping[str, str] | None = None
) -> Launch | None:
    """Return the place of this process among those that another program started.

    Args:
        devices: processes on each machine, by the settings.
        num_nodes: machines, by the settings.
        environment: variables; by default those of this process.

    Returns:
        None if no program started several processes: this one starts those that it needs.

    Raises:
        TrainingError: the program started another number of processes, or does not say enough.
    """
    given = os.environ if environment is None else environment
    processes = devices * num_nodes
    variable = next(
        (name for name in LAUNCHERS if name in given and not _is_shell(name, given)), ""
    )
    if "LOCAL_RANK" not in given and variable not in PLACES:
        variable = "WORLD_SIZE" if all(name in given for name in ONE_A_MACHINE) else variable
    program = LAUNCHERS.get(variable, "a program that sets RANK and WORLD_SIZE")
    rank, local_rank, started = _place(variable, devices, num_nodes, given)
    if started is None or (started == 1 and processes > 1):
        if num_nodes > 1 and not variable:
            raise TrainingError(
                f"num_nodes: {num_nodes} machines, and nothing says which of them this one is; "
                f"start the command on each, with torchrun --nnodes {num_nodes} --nproc-per-node "
                f"{devices} or with srun"
            )
        if variable and processes > 1:
            _refuse(processes, program, variable)
        return None
    if started == processes == 1:
        return None
    if started != processes:
        raise TrainingError(
            f"devices: {program} started {started} processes ({variable} is set), and "
            f"devices={devices} on num_nodes={num_nodes} are {processes}; give devices (processes "
            "on each machine) and num_nodes as they were started"
        )
    machines = given.get("SLURM_NNODES") if variable == "SLURM_NTASKS" else None
    on_each = given.get("LOCAL_WORLD_SIZE") if variable == "TORCHELASTIC_RUN_ID" else None
    if variable == "SLURM_NTASKS":
        on_each = given.get("SLURM_NTASKS_PER_NODE", "not given")  # which Lightning needs
    if variable == "WORLD_SIZE":
        on_each = "1"
    if on_each not in (None, str(devices)) or machines not in (None, str(num_nodes)):
        hint = " (srun --ntasks-per-node)" if variable == "SLURM_NTASKS" else ""
        raise TrainingError(
            f"devices: {devices} processes on each of num_nodes={num_nodes} machines, and "
            f"{program} says: processes on each machine {on_each or 'not given'}{hint}, machines "
            f"{machines or 'not given'}; give devices and num_nodes as they were started"
        )
    return Launch(program, variable, rank, local_rank, devices, num_nodes)


def _place(
    variable: str, devices: int, num_nodes: int, given: Mapping[str, str]
) -> tuple[int, int, int | None]:
    """Return the rank, the rank on this machine, and how many were started; None: not known."""
    try:
        if variable in PLACES:
            rank, local_rank, started = (int(given[name]) for name in PLACES[variable])
            return rank, local_rank, started
        if variable == "WORLD_SIZE":
            return int(given["RANK"]), 0, int(given["WORLD_SIZE"])
        if variable == "LOCAL_RANK" and {"MASTER_ADDR", "MASTER_PORT"} <= given.keys():
            node = int(given.get("NODE_RANK", given.get("GROUP_RANK", "0")))
            local_rank = int(given["LOCAL_RANK"])
            # Lightning multiplies the settings where a user starts the processes.
            return node * devices + local_rank, local_rank, devices * num_nodes
    except (KeyError, ValueError):
        pass
    return 0, 0, None


def as_started(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Return the place of this process among as many as a launcher says that it started.

    Raises:
        TrainingError: the launcher does not say enough.
    """
    given = os.environ if environment is None else environment
    _, size = rank_and_size(given)
    on_each = given.get("SLURM_NTASKS_PER_NODE", "1")
    on_each = given.get("LOCAL_WORLD_SIZE", on_each)
    devices = int(on_each) if on_each.isdigit() and size % max(int(on_each), 1) == 0 else 1
    return find_launch(devices, size // devices, given) if size > 1 else None


def rank_and_size(environment: Mapping[str, str] | None = None) -> tuple[int, int]:
    """Return the rank of this process among those that a launcher started, and their number.

    Where nothing says so, this process is alone: (0, 1).
    """
    given = os.environ if environment is None else environment
    places = [(name, numbers[0], numbers[2]) for name, numbers in PLACES.items()]
    for variable, rank, size in (*places, ("WORLD_SIZE", "RANK", "WORLD_SIZE")):
        if variable in given and not _is_shell(variable, given):
            try:
                return int(given[rank]), max(int(given[size]), 1)
            except (KeyError, ValueError):
                continue
    return 0, 1


def is_first_here(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether this process is the first of those that a launcher started on this machine."""
    given = os.environ if environment is None else environment
    if "TORCHELASTIC_RUN_ID" in given or {"MASTER_ADDR", "MASTER_PORT"} <= given.keys():
        return given.get("LOCAL_RANK", "0") == "0"
    slurm = "SLURM_NTASKS" in given and not _is_shell("SLURM_NTASKS", given)
    return not slurm or given.get("SLURM_LOCALID", "0") == "0"


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
        if variable in given and not _is_shell(variable, given):
            _refuse(devices, program, variable)


def _is_shell(variable: str, given: Mapping[str, str]) -> bool:
    return variable == "SLURM_NTASKS" and given.get("SLURM_JOB_NAME") in SHELLS


def _refuse(devices: int, program: str, variable: str) -> None:
    raise TrainingError(
        f"devices: {devices} processes cannot be started in a task of {program} "
        f"({variable} is set), where they would train separate models; start the command "
        f"once and without it (env -u {variable} ...), or give devices=1"
    )
