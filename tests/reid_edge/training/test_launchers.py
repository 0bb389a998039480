"""Several devices are refused where another program starts the processes."""

import pytest

from reid_edge.core.errors import TrainingError
from reid_edge.training.launchers import (
    LAUNCHERS,
    as_started,
    check_launcher,
    find_launch,
    is_first_here,
    rank_and_size,
)


@pytest.mark.parametrize("variable", LAUNCHERS)
def test_a_task_of_a_launcher_trains_on_one_device(variable: str) -> None:
    environment = {variable: "2"}
    check_launcher(1, environment)
    with pytest.raises(TrainingError, match=rf"^devices: 2 processes .* \({variable} is set\)"):
        check_launcher(2, environment)


def test_a_shell_of_slurm_and_no_launcher_may_start_processes() -> None:
    check_launcher(2, {})
    check_launcher(2, {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"})


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_NAME": "train",
}  # fmt: skip
MAIN = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
KUBEFLOW = {**MAIN, "WORLD_SIZE": "8", "RANK": "5"}
BY_HAND = {**MAIN, "LOCAL_RANK": "1", "NODE_RANK": "1"}


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM, BY_HAND])
def test_a_launcher_says_which_rank_this_is(environment: dict[str, str]) -> None:
    launch = find_launch(4, 2, environment)
    assert launch is not None
    assert (launch.rank, launch.local_rank, launch.size) == (5, 1, 8)
    assert not is_first_here(environment)
    if environment is not BY_HAND:
        assert as_started(environment) == launch
        assert rank_and_size(environment) == (5, 8)
        with pytest.raises(TrainingError, match=r"^devices: .* started 8 processes .*are 4; give"):
            find_launch(4, 1, environment)
        with pytest.raises(TrainingError, match=r"^devices: 2 processes on each of num_nodes=4"):
            find_launch(2, 4, environment)


def test_kubeflow_starts_one_process_on_each_machine() -> None:
    launch = find_launch(1, 8, KUBEFLOW)
    assert launch is not None
    assert (launch.rank, launch.local_rank, launch.size) == (5, 0, 8)
    assert as_started(KUBEFLOW) == launch
    with pytest.raises(TrainingError, match=r"^devices: 4 processes on each of num_nodes=2"):
        find_launch(4, 2, KUBEFLOW)


def test_a_process_alone_has_no_launcher() -> None:
    one = {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    for environment in ({}, one, {"WORLD_SIZE": "8"}, {"SLURM_NTASKS": "2"}):
        assert find_launch(1, 1, environment) is None
    assert rank_and_size({}) == (0, 1)
    assert is_first_here({})
    assert find_launch(2, 1, {}) is None  # this process starts them
    with pytest.raises(TrainingError, match=r"^devices: 2 processes cannot be started in a task"):
        find_launch(2, 1, one)
    with pytest.raises(TrainingError, match=r"^num_nodes: 2 machines, and nothing says which"):
        find_launch(2, 2, {})


def test_lightning_knows_every_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in (TORCHRUN, SLURM, BY_HAND, KUBEFLOW):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            launch = find_launch(*((1, 8) if environment is KUBEFLOW else (4, 2)), environment)
            assert launch is not None
            found = launch.cluster_environment()
            assert found.creates_processes_externally
            assert found.local_rank() == launch.local_rank
            if environment is not BY_HAND:  # there the strategy says so
                assert (found.global_rank(), found.world_size()) == (5, 8)
