"""What the page on training says of settings is so."""

import re
from pathlib import Path

from pipeline.preflight import check_settings
from pipeline.settings_io import load_config, setting_keys
from reid_edge.data.augmentation import AugmentationSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "train.md"


def test_the_recipe_of_torchreid(tmp_path: Path) -> None:
    page = PAGE.read_text()
    keys = set(re.findall(r"`((?:train|data)\.[a-z_.]+)[`=]", page))
    assert len(keys) > 15
    assert keys <= set(setting_keys())
    path = tmp_path / "config.yaml"
    path.write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    recipe = load_config(path)
    check_settings(recipe)
    assert recipe.train.milestones == (60,)
    # Flips alone, from ImageNet weights: what else the defaults have is not torchreid's.
    assert recipe.train.pretrained is not None
    assert recipe.train.augmentation == AugmentationSettings(crop_padding=0)
