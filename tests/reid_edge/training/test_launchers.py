"""Several devices are refused where another program starts the processes."""

import pytest

from reid_edge.core.errors import TrainingError
from reid_edge.training.launchers import LAUNCHERS, check_launcher


@pytest.mark.parametrize("variable", LAUNCHERS)
def test_a_task_of_a_launcher_trains_on_one_device(variable: str) -> None:
    environment = {variable: "2"}
    check_launcher(1, environment)
    with pytest.raises(TrainingError, match=rf"^devices: 2 processes .* \({variable} is set\)"):
        check_launcher(2, environment)


def test_a_shell_of_slurm_and_no_launcher_may_start_processes() -> None:
    check_launcher(2, {})
    check_launcher(2, {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"})
