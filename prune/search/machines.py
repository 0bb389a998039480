"""Other machines that evaluate candidates, over SSH."""

import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.errors import PruneError

# NNI keeps its files in the home folder and starts servers that listen on every interface. The
# script that it calls as python there corrects both, and keeps NNI from upgrading itself.
PREPARE = """
set -e
umask 077
folder="$HOME/.cache/prune-search"
mkdir -p "$folder"
chmod 700 "$folder"
cat > "$folder/preload.js" <<'END-OF-FILE'
{preload}
END-OF-FILE
cat > "$folder/python" <<END-OF-FILE
#!/bin/sh
export HOME="$folder" PIP_NO_INDEX=1 NODE_OPTIONS="--require=$folder/preload.js"
exec {python} "\\$@"
END-OF-FILE
chmod +x "$folder/python"
"$folder/python" -c 'import nni'
echo "$folder"
"""

ADDRESS = re.compile(r"(?P<user>\w[\w.-]*)@(?P<host>\w[\w.-]*)(:(?P<port>\d+))?")
ABSOLUTE_PATH = re.compile(r"/[\w./+-]+")
CONNECT_SECONDS = 15


@dataclass(frozen=True)
class Machine:
    """A machine with this project's requirements installed.

    Attributes:
        address: ``user@host`` or ``user@host:port``.
        key_file: private key for it, without a passphrase.
        python: its Python interpreter, as an absolute path there.

    Raises:
        PruneError: the address or the path is none.
    """

    address: str
    key_file: Path
    python: str

    def __post_init__(self) -> None:
        if ADDRESS.fullmatch(self.address) is None:
            raise PruneError(
                f"{self.address!r} is no machine; expected user@host or user@host:port"
            )
        if ABSOLUTE_PATH.fullmatch(self.python) is None:
            raise PruneError(
                f"{self.python!r} is no Python interpreter; expected an absolute path on "
                f"{self.address}"
            )

    @property
    def user(self) -> str:
        """Return who logs in."""
        return self._part("user")

    @property
    def host(self) -> str:
        """Return its name or address."""
        return self._part("host")

    @property
    def port(self) -> int:
        """Return the port of its SSH server."""
        return int(self._part("port") or 22)

    def _part(self, name: str) -> str:
        match = ADDRESS.fullmatch(self.address)
        return (match and match[name]) or ""

    def ssh(self, *options: str) -> list[str]:
        """Return the beginning of an ``ssh`` command that never asks anything."""
        return [
            "ssh", "-i", str(self.key_file), "-p", str(self.port),
            "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
            "-o", f"ConnectTimeout={CONNECT_SECONDS}",
            *options, f"{self.user}@{self.host}",
        ]  # fmt: skip


def prepare(machine: Machine) -> str:
    """Write the script that NNI starts as ``python`` to a machine; return its folder there.

    Nobody else on that machine can enter the folder. NNI puts its files there too, see preload.js.

    Raises:
        PruneError: the machine cannot be reached, or NNI is not installed there.
    """
    preload = Path(__file__).with_name("preload.js").read_text(encoding="utf-8")
    script = PREPARE.format(preload=preload, python=machine.python)
    done = subprocess.run(
        [*machine.ssh(), "sh", "-s"], input=script, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise _refused(machine, done.stderr)
    return done.stdout.strip().splitlines()[-1]


def remove_experiment(machine: Machine, folder: str, experiment: str) -> None:
    """Remove what NNI put on a machine: images, checkpoint, code and logs of an experiment.

    Args:
        machine: where it is.
        folder: what :func:`prepare` returned for it.
        experiment: NNI's name of it.

    Raises:
        PruneError: the machine cannot be reached any more; the message names the folder.
    """
    path = f"{folder}/nni-experiments/{experiment}"
    command = [*machine.ssh(), f"rm -rf {shlex.quote(path)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PruneError(f"{machine.address}: {path} is left, with images in it; remove it")


@contextmanager
def tunnels(machines: Sequence[Machine], port: int, address: str) -> Iterator[None]:
    """Let the machines reach a port of our loopback interface at an address of their own.

    NNI's workers call the manager back. With the tunnel, its port need not be open to a network. A
    tunnel ends with this process, even if that is killed.

    Args:
        machines: where to open it.
        port: ours, and theirs.
        address: on which they can reach it, as a rule their own 127.0.0.1.

    Raises:
        PruneError: a tunnel cannot be opened.
    """
    forward = ["-o", "ExitOnForwardFailure=yes", "-R", f"{address}:{port}:127.0.0.1:{port}"]
    with ExitStack() as stack:
        for machine in machines:
            # The remote command ends when its input closes, that is, when this process ends.
            command, pipe = [*machine.ssh(*forward), "echo open && cat"], subprocess.PIPE
            tunnel = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            assert tunnel.stdout is not None
            if tunnel.stdout.readline().strip() != "open":
                raise _refused(machine, tunnel.communicate()[1])
            stack.callback(tunnel.communicate)
        yield


def _refused(machine: Machine, output: str) -> PruneError:
    reason = (output.strip().splitlines() or ["no reason given"])[-1]
    return PruneError(f"{machine.address}: cannot be used for the search: {reason.strip()}")
