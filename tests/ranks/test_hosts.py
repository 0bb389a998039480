"""Machines without a folder in common train as one process: network namespaces, torchrun on each.

It needs the rights to make network namespaces (root). ``make test-hosts`` runs it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pipeline.command import main
from tests.networks import small_networks
from tests.ranks.launching import LONG, children, command, processes, write_config

pytestmark = pytest.mark.hosts

PREFIX = f"reid{os.getpid() % 10_000}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def hosts(count: int) -> Iterator[list[str]]:
    """Make network namespaces: two joined by a veth pair, more by a bridge in one of their own."""
    names = [f"{PREFIX}h{number}" for number in range(count)]
    hub = f"{PREFIX}hub"
    try:
        for name in [*names, *([hub] if count > 2 else [])]:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        if count > 2:
            ip("-n", hub, "link", "add", "switch", "type", "bridge")
            ip("-n", hub, "link", "set", "switch", "up")
        for number, name in enumerate(names):
            end = ("net0", "netns", name)
            if count > 2:
                ip("link", "add", f"{PREFIX}p{number}", "type", "veth", "peer", "name", *end)
                ip("link", "set", f"{PREFIX}p{number}", "netns", hub)
                ip("-n", hub, "link", "set", f"{PREFIX}p{number}", "master", "switch", "up")
            elif number == 0:
                other = ("net0", "netns", names[1])
                ip("-n", name, "link", "add", "net0", "type", "veth", "peer", "name", *other)
        for number, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.83.0.{number + 1}/24", "dev", "net0")
            ip("-n", name, "link", "set", "net0", "up")
        yield names
    finally:
        for name in (*names, hub):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def networks() -> Iterator[None]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")
    with small_networks():
        yield


def torchrun(name: str, number: int, count: int, arguments: list[str]) -> list[str]:
    return [
        # In a process namespace, too: no host sees the processes of another one.
        "ip", "netns", "exec", name, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
        sys.executable, "-m", "torch.distributed.run",
        "--nnodes", str(count), "--nproc-per-node", "1", "--node-rank", str(number),
        "--master-addr", "10.83.0.1", "--master-port", "29500", "--",
        *arguments, f"num_nodes={count}",
    ]  # fmt: skip


def trained(run: Path) -> dict[str, torch.Tensor]:
    content = torch.load(run / "train" / "checkpoint.pt", weights_only=True)
    return dict(content["state_dict"])


SYNCED = "ddp.sync_batchnorm=true"
# The batch-hard triplet loss chooses pairs: where two are nearly alike, the last bits decide, and a
# few steps later a hundredth of the update differs.
SMOOTH = ("train.losses.triplet=0", "train.losses.circle=0.01")


@pytest.mark.parametrize("count", [2, 4])
def test_hosts_train_as_one_process_with_the_same_batch(
    count: int, tmp_path: Path, tiny_market: Path
) -> None:
    with hosts(count) as names, processes(tmp_path / "logs") as started:
        for number, name in enumerate(names):
            # Each host has the images in a folder of its own, and no other folder.
            shutil.copytree(tiny_market, tmp_path / name / "images")
            config = write_config(
                tmp_path / name / "config.yaml", tmp_path / name / "images",
                identities=8 // count, share=0.0,
            )  # fmt: skip
            arguments = command(config, tmp_path / name / "run", SYNCED, *SMOOTH)
            started.start(torchrun(name, number, count, arguments))
        assert set(started.wait()) == {0}, started.errors
    made = tmp_path / names[0] / "run"
    assert not any((tmp_path / name / "run").exists() for name in names[1:])
    alone = write_config(tmp_path / "alone.yaml", tiny_market, identities=8, share=0.0)
    assert main(command(alone, tmp_path / "alone", *SMOOTH)[1:]) == 0
    state, expected = trained(made), trained(tmp_path / "alone")
    before = trained_from(alone, tmp_path)
    weights = [name for name, value in expected.items() if value.is_floating_point()]
    update = torch.cat([(expected[name] - before[name]).flatten() for name in weights])
    error = torch.cat([(state[name] - expected[name]).flatten() for name in weights])
    assert float(update.norm()) > 0
    assert float(error.norm() / update.norm()) < 1e-3
    records = [
        json.loads((run / "train" / "stage.json").read_text()) for run in (made, tmp_path / "alone")
    ]
    assert [record["ranks"] for record in records] == [count, 1]


def trained_from(config: Path, folder: Path) -> dict[str, torch.Tensor]:
    assert main([*command(config, folder / "before")[1:], "train.epochs=0"]) == 0
    return trained(folder / "before")


@pytest.mark.parametrize("how", ["killed", "stopped", "cut off"])
def test_a_host_that_is_lost_ends_the_other(how: str, tmp_path: Path, tiny_market: Path) -> None:
    config = write_config(tmp_path / "config.yaml", tiny_market)
    with hosts(2) as names, processes(tmp_path / "logs") as started:
        for place, name in enumerate(names):
            arguments = command(config, tmp_path / f"run{place}", LONG)
            started.start(torchrun(name, place, 2, arguments))
        started.wait_until((tmp_path / "run0" / "train" / "last.ckpt").exists)
        if how == "cut off":
            ip("-n", names[1], "link", "set", "net0", "down")
        else:
            for process in children(started.all[1].pid):  # torchrun and its rank
                os.kill(process, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        assert started.all[0].wait(300) == 1
        if how == "cut off":
            assert started.all[1].wait(300) == 1
            assert "error: rank 0, or the machine that holds the store" in started.error(1)
    assert started.error(0).count("error: rank 1 of 2 (process ") == 1
