"""``transfer_learning``: the keys of a Hydra project set those of train and transfer."""

from pathlib import Path

import pytest

from pipeline.command import parse_arguments, resolve
from pipeline.config import Config
from pipeline.settings_io import load_config, write_config
from reid_edge.core.errors import PipelineError

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "config_transfer_learning.yaml"
SOURCE = "transfer_learning.source_checkpoint"


def load(*overrides: str) -> Config:
    return load_config(CONFIG, [f"{SOURCE}=x1_0.pth.tar", *overrides])


def test_they_are_the_settings_that_they_set(tmp_path: Path) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text(
        "extends: osnet_x0_5.yaml\nname: config_transfer_learning\n"
        "stages: [train, transfer, quantize]\n"
        "train: {epochs: 0, pretrained: x1_0.pth.tar}\n"
        "transfer:\n  target: osnet_x0_5\n  tuning:\n    epochs: 30\n    learning_rate: 3.5e-4\n"
        "    warmup_epochs: 5\n    augmentation: {crop_padding: 10, erasing: 0.3}\n"
        "    frozen_layers: [conv1, conv2]\n    frozen_epochs: 30\n"
    )
    assert load() == load_config(plain)


def test_a_run_stores_what_they_set(tmp_path: Path) -> None:
    config = load()
    stored = tmp_path / "config.yaml"
    stored.write_text(write_config(config))
    assert "transfer_learning:" not in stored.read_text()
    assert load_config(stored) == config
    # Later, another rate is one setting among others.
    changed = load_config(stored, ["transfer.tuning.learning_rate=1e-4"])
    assert changed.of(changed.declared["transfer"]).tuning.learning_rate == 1e-4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "layers", "epochs"),
    [
        (["transfer_learning.freeze_layers=0"], (), 0),
        (["transfer_learning.freeze_layers=5"], ("conv1", "conv2", "conv3", "conv4", "conv5"), 30),
        (["transfer_learning.freeze_layers=[conv1, conv2.*]"], ("conv1", "conv2.*"), 30),
        (["transfer.tuning.epochs=8"], ("conv1", "conv2"), 8),
        (["transfer.tuning.frozen_epochs=3"], ("conv1", "conv2"), 3),
    ],
)
def test_frozen_layers(overrides: list[str], layers: tuple[str, ...], epochs: int) -> None:
    config = load(*overrides)
    tuning = config.transfer.tuning  # type: ignore[attr-defined]
    assert (tuning.frozen_layers, tuning.frozen_epochs) == (layers, epochs)


def test_disabled_the_section_does_nothing() -> None:
    config = load("transfer_learning.enabled=false")
    assert config.train.epochs == 60  # type: ignore[attr-defined]
    assert config.train.pretrained is None  # type: ignore[attr-defined]
    assert config.transfer.tuning.frozen_layers == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"{SOURCE}=null", "transfer_learning: enabled needs source_checkpoint"),
        (
            "transfer_learning.freeze_layers=6",
            "transfer_learning.freeze_layers: expected names of layers, or a number up to 5, "
            "found 6",
        ),
        ("transfer_learning.enabled=perhaps", "transfer_learning.enabled: input should be a "),
        ("transfer_learning.method=l2", "unknown setting 'transfer_learning.method'"),
        ("train.pretrained=other.pth", "train.pretrained: other.pth and transfer_learning.source"),
    ],
)
def test_what_does_not_go_is_one_line(override: str, words: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load(override)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-name", "config_transfer_learning"],
        ["--config-name=config_transfer_learning.yaml"],
        ["-cn", "config_transfer_learning"],
    ],
)
def test_the_configuration_is_found_by_the_name_that_hydra_has_for_it(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [*arguments, f"{SOURCE}={tmp_path}/x1_0.pth.tar"]
    config, _ = resolve(parse_arguments(given, "run_pipeline.py"))
    assert config.name == "config_transfer_learning"
    # A project's own configuration of the name comes first.
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "config_transfer_learning.yaml").write_text("name: own\n")
    config, _ = resolve(parse_arguments(arguments, "run_pipeline.py"))
    assert config.name == "own"
