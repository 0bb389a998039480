import pytest

from pipeline.settings_io import setting_keys
from pipeline.stages import STAGES
from prune.criteria import CRITERIA
from quantize.exporters import EXPORTERS
from reid_edge.cli.main import COMMANDS, OTHER_COMMANDS
from reid_edge.core.suggestions import MEANINGS, did_you_mean, nearest_name
from reid_edge.models.registry import ARCHITECTURES


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train.lr", "train.learning_rate"),
        ("finetune.base_lr", "finetune.learning_rate"),
        ("train.batch_size", "train.identities_per_batch"),
        ("train.max_epoch", "train.epochs"),
        ("train.margin", "train.losses.triplet_margin"),
        ("data.dataset", "data.root"),
        ("data.num_workers", "data.workers"),
        ("data.hight", "data.height"),
        ("model.arch", "model.architecture"),
        ("prune.sparsity", "prune.target"),
        ("prune.tunning.epochs", "prune.tuning.epochs"),
        ("trian.epochs", "train.epochs"),
        ("qat.epochs", "quantize.qat.epochs"),
        ("lr", "train.learning_rate"),
        ("train.zzz", None),
        ("nothing.like.it", None),
    ],
)
def test_settings(name: str, meant: str | None) -> None:
    assert nearest_name(name, setting_keys()) == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("evalute", "evaluate"), ("test", "evaluate"), ("train", "run"), ("enroll", "enrol"),
        ("convert", "export"), ("xyz", None),
    ],
)  # fmt: skip
def test_commands(name: str, meant: str | None) -> None:
    assert nearest_name(name, [*COMMANDS, *OTHER_COMMANDS]) == meant


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("magnitude", CRITERIA, "l2"),
        ("L2", CRITERIA, "l2"),
        ("taylr", CRITERIA, "taylor"),
        ("quantise", STAGES, "quantize"),
        ("fine-tune", STAGES, "finetune"),
        ("test", STAGES, "benchmark"),
        ("osnet", ARCHITECTURES, "osnet_x1_0"),
        ("OSNet-x0-5", ARCHITECTURES, "osnet_x0_5"),
        ("osnet_x0.5", ARCHITECTURES, "osnet_x0_5"),
        ("mobilenet", ARCHITECTURES, None),
    ],
)
def test_other_names(name: str, known: list[str], meant: str | None) -> None:
    assert nearest_name(name, known) == meant


def test_the_hint_for_a_message() -> None:
    assert did_you_mean("trian", STAGES) == "did you mean 'train'? "
    assert did_you_mean("zzz", STAGES) == ""


def test_every_word_of_other_programs_leads_somewhere() -> None:
    ours = {part for key in setting_keys() for part in key.split(".")}
    ours |= {*COMMANDS, *OTHER_COMMANDS, *STAGES, *CRITERIA, *ARCHITECTURES, *EXPORTERS}
    ours |= {"weights", "images", "data", "format", "dims", "batch_size"}  # options of commands
    lost = {word for word, meant in MEANINGS.items() if not ours & set(meant)}
    assert lost == set()
