"""Settings: files, extends, overrides, and what is said when they are wrong."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import config_class
from pipeline.settings.target import WidthBudget
from pipeline.settings_io import load_config, setting_keys, write_config
from reid_edge.core.errors import PipelineError

pytestmark = pytest.mark.medium

Config = config_class()
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# tests/pipeline/sweep reads the other one.
RUNS = sorted(path for path in CONFIGS.glob("*.yaml") if path.stem != "sweep")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_config_of_the_product_is_valid(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_overrides_and_stages(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {epochs: 5}")
    config = load_config(
        path, ["train.epochs=7", "data.root=~/x", "quantize.float_layers=[fc.0]"], "train, prune"
    )
    assert config.train.epochs == 7
    assert config.data.root == Path.home() / "x"
    assert config.quantize.float_layers == ("fc.0",)
    assert config.stages == ("train", "prune")


def test_extends_refines_its_base(tmp_path: Path) -> None:
    write(tmp_path, "name: base\ntrain: {epochs: 5, learning_rate: 0.1}", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nname: child\ntrain: {epochs: 6}")
    config = load_config(path)
    assert (config.name, config.train.epochs, config.train.learning_rate) == ("child", 6, 0.1)


def test_extends_replaces_values_that_are_mappings(tmp_path: Path) -> None:
    write(
        tmp_path,
        "prune: {target: {macs: 0.3}, ratios: {conv2.*: 0.5}, iterations: 2}\n"
        "search: {variables: {all: ['*']}}",
        "base.yaml",
    )
    path = write(
        tmp_path,
        "extends: base.yaml\nprune: {target: {latency: 0.5}, ratios: {conv3.*: 0.7}}\n"
        "search: {variables: {rest: [conv5.*]}}",
    )
    config = load_config(path)
    assert config.prune.target == WidthBudget(latency=0.5)
    assert config.prune.ratios == {"conv3.*": 0.7}
    assert config.prune.iterations == 2
    assert config.search.variables == {"rest": ("conv5.*",)}


def test_a_written_config_reads_back_the_same(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "data: {root: /x}\nprune: {iterations: 5}"))
    assert load_config(write(tmp_path, write_config(config), "d.yaml")) == config


WRONG = {
    "train.epoch=3": r"unknown setting 'train.epoch'; did you mean 'train.epochs'\?",
    "epochs=3": r"unknown setting 'epochs'; did you mean 'train.epochs'\?",
    "train.epochs=many": r"train.epochs: .*integer.*found 'many'",
    "train.epochs=-1": r"train.epochs: .*greater than or equal to 0",
    "data.height=[1": r"data.height: cannot read the value",
    "name=2024-13-45": r"name: cannot read the value",
    "data.root=": r"data.root: no value behind '='",
    "name.x=1": r"unknown setting 'name.x'",
    "name=..": r"name: .*pattern",
    "stages": r"'stages' is no setting; expected key.path=value",
    "quantize.engine=tpu": r"quantize.engine: .*'qnnpack', 'x86' or 'onednn'.*found 'tpu'",
    "model.architecture=osnet_x10": r"model.architecture: unknown architecture 'osnet_x10'",
    "prune.target=1.5": r"^prune.target: .*less than or equal to 1, found 1.5",
    "prune.target={macs: 0}": r"^prune.target.macs: .*greater than 0, found 0",
    "prune.target={flops: 1}": r"unknown setting 'prune.target.flops'; prune.target is one value",
    "prune.target.macs=0.3": r"unknown setting 'prune.target.macs'; prune.target is one value",
    "prune.target=resnet": r"prune.target: unknown architecture 'resnet'",
    "transfer.target=resnet": r"transfer.target: unknown architecture 'resnet'",
    "name=../up": r"name: .*pattern",
    "quantize.qat.patience=2": r"quantize.qat.patience: .*less than or equal to 0, found 2",
    "quantize.qat.ema_decay=0.9": r"quantize.qat.ema_decay: .* less than or equal to 0, found 0.9",
    "quantize.qat.frozen_epochs=1": r"qat.frozen_epochs: .*less than or equal to 0, found 1",
    "data.root=~nobody-here/x": r"data.root: ~nobody-here/x: '~nobody-here' is the home of nobody",
    "benchmark.batches=[0]": r"benchmark.batches.0: input should be greater than or equal to 1",
    "benchmark.threads=[0]": r"benchmark.threads.0: input should be greater than or equal to 1",
    "quantize.qat.head_learning_rate=1": r"qat.head_learning_rate: input should be None, found 1",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_overrides(tmp_path: Path, override: str) -> None:
    with pytest.raises(PipelineError, match=WRONG[override]) as caught:
        load_config(write(tmp_path, "{}"), [override])
    assert "\n" not in str(caught.value)


def test_an_empty_section_takes_an_override(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "train:\n"), ["train.epochs=2"]).train.epochs == 2
    with pytest.raises(PipelineError, match="train is a single value in the file"):
        load_config(write(tmp_path, "train: 3"), ["train.epochs=2"])


WRONG_FILES = {
    "train: {epocs: 3}": r"unknown setting 'train.epocs'; did you mean 'train.epochs'\?",
    "train: {epochs: 3": r"not valid YAML at line \d",
    "just words": r"expected settings as 'key: value'",
    "train: 3": r"train: .*found 3",
    "extends: c.yaml": r"'extends' goes round in a circle",
    "extends: nowhere.yaml": r"nowhere.yaml: cannot read this configuration",
    "stages: [train, fly]": r"unknown stage 'fly': stages are train, adapt, transfer, prune, fine",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_wrong_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(PipelineError, match=WRONG_FILES[text]) as caught:
        load_config(write(tmp_path, text))
    assert "\n" not in str(caught.value)


WRONG_STAGES = {
    "trian,prune": r"unknown stage 'trian': did you mean 'train'\?",
    "prune,train": r"stages out of order: prune,train; .* in this order: train,prune",
    "train,train": r"stages out of order",
    "train,transfer,prune": r"name both transfer and prune: transfer lands at the target, nothing",
    ",": r"stages: expected some of",
}


@pytest.mark.parametrize("stages", WRONG_STAGES)
def test_wrong_stages(tmp_path: Path, stages: str) -> None:
    with pytest.raises(PipelineError, match=WRONG_STAGES[stages]):
        load_config(write(tmp_path, "{}"), stages=stages)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e400", "1.0e+400"])
def test_no_setting_takes_a_number_that_is_not_finite(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, "{}")
    keys = list(setting_keys())
    if value == "1e400":  # text for YAML, so only numbers refuse it
        defaults = load_config(path).model_dump()
        keys = [key for key in keys if isinstance(at(defaults, key), float)]
        keys += ["train.head_learning_rate", "prune.accuracy_budget", "search.macs"]
    assert len(keys) > 80
    for key in keys:
        with pytest.raises(PipelineError, match=rf"^{re.escape(key)}\b"):
            load_config(path, [f"{key}={value}"])
    for setting in ("prune.target={macs: %s}", "prune.ratios={conv2: %s}"):
        with pytest.raises(PipelineError, match="finite number"):
            load_config(path, [setting % value])


def at(content: dict[str, Any], key: str) -> Any:
    for name in key.split("."):
        if name not in content:  # a key that sets others
            return None
        content = content[name]
    return content


def test_every_setting_has_a_description() -> None:
    def check(model: type, prefix: str) -> None:
        for name, entry in model.model_fields.items():  # type: ignore[attr-defined]
            nested = entry.annotation
            if isinstance(nested, type) and hasattr(nested, "model_fields"):
                check(nested, f"{prefix}{name}.")
            else:
                assert entry.description, prefix + name

    check(Config, "")


BOMB = "\n".join(["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no settings"),
        ("# nothing\n", "holds no settings"),
        ("train: " + "[" * 500 + "]" * 500, "nested deeper than 30 levels"),
        ("train: " + "[" * 5000 + "]" * 5000, "nested deeper than 30 levels"),
        (BOMB, "more than 100,000 values once aliases are replaced"),
        ("train: &a [*a]", "nested deeper than 30 levels"),
        ("1: 2", "line 1: the key '1' is no text"),
        ("train: {epochs: 2}\non: 3", "line 2: the key 'on' is no text"),
        ("prune: {ratios: {0.5: 0.5}}", "line 1: the key '0.5' is no text"),
        ("? [a]\n: 2", "line 1: the key"),
        ('extends: "a\\0b"', "extends: expected the name of a file, found 'a\\x00b'"),
        ("extends: [base.yaml]", "extends: expected the name of a file, found ['base.yaml']"),
        ("extends: 3", "extends: expected the name of a file, found 3"),
    ],
)
def test_yaml_that_no_configuration_is(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(PipelineError, match=re.escape(words)) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["[" * 500 + "]" * 500, "{1: 2}"])
def test_the_value_of_an_override_has_the_same_limits(tmp_path: Path, value: str) -> None:
    with pytest.raises(PipelineError, match=r"^prune.ratios: (nested deeper|line 1: the key)"):
        load_config(write(tmp_path, "name: x"), [f"prune.ratios={value}"])
