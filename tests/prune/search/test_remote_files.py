"""What a search leaves on other machines, over a real SSH connection to this one."""

import getpass
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nni_node
import pytest

import prune.search
from prune.search.machines import Machine, prepare, remove_experiment
from reid_edge.core.errors import PruneError

NNI = Path(nni_node.__path__[0])
NODE = NNI / "node"
SERVER = Path(__file__).with_name("ssh_server.js")
PRELOAD = Path(prune.search.__path__[0]) / "preload.js"

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(
        shutil.which("ssh") is None or shutil.which("ssh-keygen") is None,
        reason="needs an SSH client",
    ),
]

# What NNI does first on another machine, by its own code.
UPLOAD = """
require("common/globals/unittest").resetGlobals();
const { ShellExecutor } = require("training_service/remote_machine/shellExecutor");
(async () => {
  const executor = new ShellExecutor();
  await executor.initialize({ config: {
    host: "127.0.0.1", port: {port}, user: "{user}", sshKeyFile: "{key}", pythonPath: "{folder}",
  } });
  const root = executor.getRemoteExperimentRootDir("abc");
  await executor.createFolder(root);
  await executor.allowPermission(true, root);
  console.log(root);
  executor.close();
})();
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """This machine, with another home folder."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", tmp_path / name]
        subprocess.run(command, check=True)
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
    ssh.chmod(0o700)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o700)
    arguments = [tmp_path / "host", tmp_path / "client.pub", NNI / "node_modules" / "ssh2"]
    server = subprocess.Popen(
        [NODE, SERVER, *arguments], env=os.environ | {"HOME": str(home)}, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())
    yield Machine(f"{getpass.getuser()}@127.0.0.1:{port}", tmp_path / "client", str(python))
    server.kill()
    server.communicate()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_can_enter_the_folder_and_the_files_go_at_the_end(machine: Machine) -> None:
    folder = prepare(machine)
    assert mode(Path(folder)) == 0o700
    script = UPLOAD
    for name, value in {
        "port": machine.port, "user": machine.user, "key": machine.key_file,
        "folder": folder,
    }.items():  # fmt: skip
        script = script.replace(f"{{{name}}}", str(value))
    done = subprocess.run(
        [NODE, "-e", script],
        env=os.environ | {"NODE_OPTIONS": f'--require "{PRELOAD}"', "NODE_PATH": str(NNI)},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    root = Path(done.stdout.strip().splitlines()[-1])
    assert root == Path(folder) / "nni-experiments" / "abc"
    assert root.is_dir()
    (root / "images.pt").write_bytes(b"images")
    remove_experiment(machine, folder, "abc")
    assert not root.exists()
    assert Path(folder).is_dir()


def test_files_that_cannot_be_removed_are_named(machine: Machine) -> None:
    gone = Machine("me@127.0.0.1:9", machine.key_file, machine.python)
    with pytest.raises(PruneError, match=r"127\.0\.0\.1:9: /f/nni-experiments/abc is left"):
        remove_experiment(gone, "/f", "abc")
