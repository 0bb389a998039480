"""The process that holds NNI's manager: ``python -m prune.search.manager``, the job on its input.

It runs in its own process because NNI reads its home folder, its servers' addresses and the
variables of its trials from the environment.
"""

import os
import shlex
import signal
import socket
import sys
import time
import urllib.request
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import prune
from prune.search.history import finished_trials, read_events
from prune.search.job import Job
from prune.search.machines import prepare, remove_experiment, tunnels
from reid_edge.core.errors import PruneError

POLL_SECONDS = 0.5
START_SECONDS = 120
ANSWER_SECONDS = 60
ERROR_MARK = "search error: "
FAILED = ("FAILED", "UNKNOWN", "SYS_CANCELED")


def main() -> int:
    """Run the job on standard input; return the exit code."""
    job = Job.from_json(sys.stdin.read())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    from nni.experiment import Experiment, launcher, rest

    # NNI gives its manager three seconds to start, which is too short on a busy machine.
    launcher._check_rest_server = partial(launcher._check_rest_server, retry=START_SECONDS)
    rest.timeout = ANSWER_SECONDS
    # This tells NNI's manager to end with this process, see preload.js.
    os.environ["NNI_ENDS_WITH_PARENT"] = str(os.getpid())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    try:
        folders = [prepare(machine) for machine in job.machines]
        experiment = Experiment(_config(job, folders))
        with ExitStack() as stack:
            for machine, folder in zip(job.machines, folders, strict=True):
                stack.callback(remove_experiment, machine, folder, experiment.id)
            stack.enter_context(tunnels(job.machines, port, job.callback))
            stack.callback(experiment.stop)
            experiment.start(port)
            _wait(experiment, job)
    except PruneError as error:
        sys.stderr.write(f"{ERROR_MARK}{error}\n")
        return 1
    return 0


def _config(job: Job, folders: list[str]) -> Any:
    from nni.experiment import ExperimentConfig
    from nni.experiment.config import CustomAlgorithmConfig, RemoteConfig, RemoteMachineConfig

    config = ExperimentConfig("remote" if job.machines else "local")
    config.experiment_working_directory = job.folder / "nni"
    config.search_space = {
        name: {"_type": "quniform", "_value": [job.low, job.high, job.step]}
        for name in job.variables
    }
    config.tuner = CustomAlgorithmConfig(
        class_name="prune.search.tuner.RecordedTpe",
        code_directory=Path(prune.__file__).resolve().parent.parent,
        class_args={"history": str(job.history), "start": job.start, "seed": job.seed},
    )
    python = "python" if job.machines else sys.executable
    config.trial_command = shlex.join([python, "-m", job.module])
    config.trial_code_directory = job.code
    config.trial_concurrency = job.concurrency
    config.max_trial_number = job.trials - len(finished_trials(read_events(job.history)))
    if job.machines:
        config.nni_manager_ip = job.callback
        config.training_service = RemoteConfig(
            machine_list=[
                RemoteMachineConfig(
                    host=machine.host,
                    port=machine.port,
                    user=machine.user,
                    ssh_key_file=machine.key_file,
                    python_path=folder,
                )
                for machine, folder in zip(job.machines, folders, strict=True)
            ]
        )
    return config


def _wait(experiment: Any, job: Job) -> None:
    parent = os.getppid()
    while (status := experiment.get_status()) != "DONE":
        if os.getppid() != parent:
            raise PruneError("the program that started the search is gone")
        if status in ("ERROR", "STOPPED"):
            raise PruneError(f"NNI gave up; {job.folder / 'nni'}/*/log says why")
        failed = [trial for trial in experiment.list_trial_jobs() if trial.status in FAILED]
        if failed:
            trial = f"trial-file/{failed[0].trialJobId}/stderr"
            url = f"http://127.0.0.1:{experiment.port}/api/v1/nni/{trial}"
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                text = answer.read().decode(errors="replace")
            lines = [line for line in text.splitlines() if line]
            reason = lines[-1].strip() if lines else "it said nothing"
            raise PruneError(f"a trial failed: {reason}")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
