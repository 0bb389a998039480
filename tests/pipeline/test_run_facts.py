"""The settings of a run as its page and the comparison of runs show them."""

from pipeline.config import config_class
from pipeline.report.run_facts import Setting, settings_of

Config = config_class()

CHANGED = {
    "threads": 2,
    "data": {"options": {"train_all": True}},
    "train": {"fused_optimizer": True, "head_learning_rate": 0.1},
    "prune": {"target": {"macs": 0.3}},
    "quantize": {"qat": {"fused_optimizer": True}},
    "benchmark": {"threads": [1, 2]},
}


def test_what_differs_stands_beside_its_default() -> None:
    assert [one for one in settings_of(Config.model_validate(CHANGED)) if one.differs] == [
        Setting("threads", "2", "none (all cores)"),
        Setting("data.options", '{"train_all": true}', "{}"),
        Setting("train.fused_optimizer", "true", "false"),
        Setting("train.head_learning_rate", "0.1", "none (learning_rate)"),
        Setting("prune.target", '{"macs": 0.3, "widths": "by_loss"}', '"osnet_x0_5"'),
        Setting("quantize.qat.fused_optimizer", "true", "false"),
        Setting("benchmark.threads", "[1, 2]", "none (1, and all cores of the process)"),
    ]


def test_every_setting_has_a_default_and_says_what_none_means() -> None:
    settings = settings_of(Config())
    assert not [one for one in settings if one.differs]
    assert "train.fused_optimizer" in {one.key for one in settings}
    assert not [one.key for one in settings if "null" in one.default]
    # Quantization-aware training has one rate for all layers; this cannot be set.
    assert [one.key for one in settings if one.default == "none"] == [
        "quantize.qat.head_learning_rate"
    ]
    assert {one.key: one.default for one in settings}["train.pretrained"] == "none (random weights)"
