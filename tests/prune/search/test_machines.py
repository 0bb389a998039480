import shutil
import socket
from pathlib import Path

import pytest

from prune.search.job import Job
from prune.search.machines import Machine, prepare, tunnels
from reid_edge.core.errors import PruneError

KEY = Path("/nowhere/key")


def test_an_address_is_taken_apart() -> None:
    machine = Machine("me@10.0.0.7:2222", KEY, "/opt/venv/bin/python3.11")
    assert (machine.user, machine.host, machine.port) == ("me", "10.0.0.7", 2222)
    assert Machine("me@host.example", KEY, "/usr/bin/python").port == 22


@pytest.mark.parametrize("address", ["host", "me@", "@host", "me@host:", "me@-oProxyCommand=x", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(PruneError, match="is no machine; expected user@host or user@host:port"):
        Machine(address, KEY, "/usr/bin/python")


@pytest.mark.parametrize("python", ["python", "bin/python", "/bin/$(id)", "/bin/a b", "/bin/`id`"])
def test_what_is_no_path_is_refused(python: str) -> None:
    with pytest.raises(PruneError, match="is no Python interpreter; expected an absolute path"):
        Machine("me@host", KEY, python)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs an SSH client")
def test_a_machine_that_does_not_answer_is_named() -> None:
    with socket.socket() as taken:  # a port on which nothing listens
        taken.bind(("127.0.0.1", 0))
        machine = Machine(f"me@127.0.0.1:{taken.getsockname()[1]}", KEY, "/usr/bin/python")
        words = rf"{machine.address}: cannot be used for the search: .*refused"
        with pytest.raises(PruneError, match=words):
            prepare(machine)
        with pytest.raises(PruneError, match=words), tunnels([machine], 12345, "127.0.0.1"):
            pass


def test_a_job_survives_the_way_to_another_process(tmp_path: Path) -> None:
    job = Job(
        folder=tmp_path,
        code=tmp_path / "code",
        module="trial",
        variables=("a", "b"),
        low=0.1,
        high=1.0,
        step=0.1,
        start={"a": 0.1 + 0.2, "b": 0.5},
        seed=3,
        trials=5,
        machines=(Machine("me@host", KEY, "/usr/bin/python"),),
    )
    assert Job.from_json(job.to_json()) == job
