"""What the result of a stage depends on."""

from pathlib import Path

import pytest

from pipeline.config import config_class
from pipeline.dependencies import stage_inputs, stage_settings
from pipeline.stages.prune import PRUNE
from prune.plan_file import PlanFile, write_plan

Config = config_class()


def test_the_distance_counts_where_map_decides_which_weights_are_kept() -> None:
    def same(stage: str, **settings: object) -> bool:
        made = [
            Config.model_validate({**settings, "evaluation": {"distance": distance}})
            for distance in ("cosine", "euclidean")
        ]
        return stage_settings(made[0], made[0].declared[stage]) == stage_settings(
            made[1], made[1].declared[stage]
        )

    assert same("train")
    assert same("prune")
    assert not same("train", data={"validation_share": 0.1})
    assert not same("prune", prune={"accuracy_budget": 0.02})
    # Decisions and tables of accuracy are in what these leave.
    assert not any(same(stage) for stage in ("quantize", "export", "benchmark"))


def test_the_threads_count_where_widths_are_timed() -> None:
    def settings(target: object, threads: int) -> dict[str, object]:
        content = {"prune": {"target": target}, "latency": {"threads": threads}}
        return stage_settings(Config.model_validate(content), PRUNE)

    assert settings({"latency": 0.5}, 1) != settings({"latency": 0.5}, 2)
    assert settings({"macs": 0.5}, 1) == settings({"macs": 0.5}, 2)


def test_a_plan_file_counts_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(width: int) -> tuple[dict[str, str], dict[str, object]]:
        folder = tmp_path / str(width)
        plan = PlanFile(
            architecture="osnet_x1_0", input_size=(64, 32), widths={"conv5.conv": width},
            macs=1, parameters=1,
        )  # fmt: skip
        write_plan(folder / "plan.json", plan)
        monkeypatch.chdir(folder)
        config = Config.model_validate({"prune": {"target": "plan.json"}})
        monkeypatch.chdir(tmp_path)  # the run may be resumed from another folder
        inputs = stage_inputs(config, PRUNE, data_hash="", parent=None, made={})
        return inputs, stage_settings(config, PRUNE)

    (first, settings), (second, settings_again) = count(7), count(8)
    assert first["plan"] != second["plan"]
    assert settings == settings_again
