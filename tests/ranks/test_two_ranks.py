"""Two ranks of torchrun, without a folder in common, train and embed as one process."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reid_edge.data.schema import ReidData
from reid_edge.inference.features import embed_images
from reid_edge.training.fit import fit
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.fit_state import LAST
from reid_edge.training.validation import Validation
from tests.networks import small_networks
from tests.ranks.stage_work import work_of_stages
from tests.ranks.two_ranks import HEIGHT, KINDS, WIDTH, new_model, new_teacher, settings

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[2]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def trained(tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ranks")
    with small_networks():
        done = subprocess.run(
            [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node", "2", str(ROOT / "tests" / "ranks" / "two_ranks.py"),
                str(tiny_market), str(out),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("gathered: epoch 1/1, loss") == 1
    assert "gathered: learning rate 0.02, of 2 processes (linear)" in done.stderr
    return out


@pytest.fixture(scope="module")
def alone(tiny_data: ReidData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """One process with the same images in a step."""
    out = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with small_networks():
        model = new_model()
        fit(
            model,
            FitConfig(
                images=tiny_data.train, settings=settings(8), height=HEIGHT, width=WIDTH, seed=5,
                folder=out, label="alone", accelerator="cpu", log=("csv",),
                validation=Validation(tiny_data, batch_size=5),
                teacher=new_teacher(len(tiny_data.train)),
            ),
        )  # fmt: skip
    torch.set_num_threads(threads)
    return out, model.state_dict()


def change(before: State, after: State) -> torch.Tensor:
    """Return the change of all parameters as one vector."""
    return torch.cat(
        [
            (after[name] - value).flatten()
            for name, value in before.items()
            if value.is_floating_point() and "running_" not in name
        ]
    )


def difference(state: State, expected: State) -> float:
    """Return how far the update of a model is from another one, as a share of it."""
    with small_networks():
        before = new_model().state_dict()
    wanted = change(before, expected)
    return float((change(before, state) - wanted).norm() / wanted.norm())


def test_the_update_is_that_of_one_process_with_the_same_batch(
    trained: Path, alone: tuple[Path, State]
) -> None:
    kinds = {name: torch.load(trained / f"{name}.pt", weights_only=True) for name in KINDS}
    _, expected = alone
    assert difference(kinds["gathered"], expected) < 1e-4  # measured: 1e-6
    assert difference(kinds["apart"], expected) > 1e-2
    statistics = [name for name in expected if "running_" in name]
    assert len(statistics) == 8
    for name in statistics:
        torch.testing.assert_close(kinds["gathered"][name], expected[name], rtol=1e-4, atol=1e-6)


def test_validation_and_losses_are_those_of_one_process(
    trained: Path, alone: tuple[Path, State]
) -> None:
    def row(folder: Path) -> dict[str, float]:
        with (folder / "metrics.csv").open(newline="") as file:
            return {name: float(value) for name, value in next(csv.DictReader(file)).items()}

    measured, expected = row(trained / "gathered"), row(alone[0])
    assert measured.keys() == expected.keys()
    assert {"loss/triplet", "loss/circle", "validation/mAP"} <= measured.keys()
    assert measured == pytest.approx(expected, rel=1e-4)


def test_embeddings_of_all_ranks_are_those_of_one_process(
    trained: Path, tiny_data: ReidData
) -> None:
    embedded = torch.load(trained / "embedded.pt", weights_only=True)["embedded"]
    model = new_trained(trained)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for found, count in zip(embedded, (1, 13, len(tiny_data.gallery)), strict=True):
        whole = embed_images(
            model, tiny_data.gallery[:count], height=HEIGHT, width=WIDTH, batch_size=5
        )
        assert torch.equal(found, whole)
    torch.set_num_threads(threads)


def test_statistics_scores_and_ranges_are_those_of_one_process(trained: Path) -> None:
    shared = torch.load(trained / "stages.pt", weights_only=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with small_networks():
        alone = work_of_stages(None)
    torch.set_num_threads(threads)
    assert shared.keys() == alone.keys()
    kinds = {name.partition(" ")[0] for name in alone}
    assert kinds == {"rank", "covariance", "rebased", "held", "range"}
    done = (trained / "done.txt").read_text().split("\n")
    assert done == ["covariances", "covariances", "moments", "held back", "calibration"]
    assert [name for name, values in alone.items() if not torch.equal(values, shared[name])] == []


def new_trained(trained: Path) -> torch.nn.Module:
    with small_networks():
        model = new_model()
    model.load_state_dict(torch.load(trained / "apart.pt", weights_only=True))
    return model


def test_a_state_says_how_many_ranks_it_is_of(trained: Path) -> None:
    assert torch.load(trained / "gathered" / LAST, weights_only=True)["ranks"] == 2
    assert not list((trained / "gathered").glob("*.partial"))
