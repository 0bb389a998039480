"""What is loaded into NNI's Node processes, in NNI's own Node."""

import json
import os
import subprocess
from pathlib import Path

import nni_node
import pytest

import prune.search

NODE = Path(nni_node.__path__[0]) / "node"
PRELOAD = Path(prune.search.__path__[0]) / "preload.js"

LISTEN = """
const server = require("net").createServer();
server.listen(ARGUMENTS, () => { console.log(JSON.stringify(server.address())); server.close(); });
"""


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [NODE, "-e", script],
        env=os.environ | {"NODE_OPTIONS": f'--require "{PRELOAD}"'} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("arguments", ["0", "0, undefined", "{port: 0}", "{port: 0, host: ''}"])
def test_a_server_without_an_address_listens_on_the_loopback_interface(arguments: str) -> None:
    assert json.loads(run(LISTEN.replace("ARGUMENTS", arguments)))["address"] == "127.0.0.1"


@pytest.mark.parametrize("arguments", ["0, '127.0.0.9'", "{port: 0, host: '127.0.0.9'}"])
def test_an_address_that_is_given_is_kept(arguments: str) -> None:
    assert json.loads(run(LISTEN.replace("ARGUMENTS", arguments)))["address"] == "127.0.0.9"


def test_a_socket_in_the_file_system_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    assert json.loads(run(LISTEN.replace("ARGUMENTS", f"'{path}'"))) == str(path)


def test_timers_work_as_before() -> None:
    script = "require('util').promisify(setTimeout)(1).then(() => console.log('then'))"
    assert run(script) == "then"


def test_the_manager_ends_when_its_parent_does() -> None:
    # The shell starts Node in the background, says its number, and ends.
    script = f"""
    export NNI_ENDS_WITH_PARENT=$$
    "{NODE}" --require "{PRELOAD}" -e 'setTimeout(() => {{}}, 60000)' >/dev/null 2>&1 &
    echo $!; sleep 1
    """
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert _is_gone(int(done.stdout), seconds=20)


def _is_gone(process: int, seconds: float) -> bool:
    import time

    import psutil

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(process) or psutil.Process(process).status() == "zombie":
            return True
        time.sleep(0.1)
    return False
