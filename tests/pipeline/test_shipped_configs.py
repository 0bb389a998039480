"""The configurations that come with the program are found from any folder."""

from pathlib import Path

import pytest

from pipeline.settings_io import load_config
from pipeline.shipped_configs import find_config, shipped_folder
from reid_edge.core.errors import PipelineError


@pytest.mark.parametrize("given", ["face", "face.yaml", "configs/face", "configs/face.yaml"])
def test_a_name_is_found_from_another_folder(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path(given)) == shipped_folder() / "face.yaml"


def test_a_file_that_exists_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("configs/face.yaml")
    own.parent.mkdir()
    own.write_text("name: own")
    assert find_config(own) == own
    Path("face").mkdir()  # a folder is no configuration
    assert find_config(Path("face")) == shipped_folder() / "face.yaml"


@pytest.mark.parametrize("given", ["fase", "other/face.yaml", "/configs/face.yaml", "face.json"])
def test_what_is_not_there_is_refused(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError) as raised:
        find_config(Path(given))
    assert str(raised.value).startswith(
        f"{given}: cannot read this configuration; give an existing YAML file, or one of "
        "compress, config_transfer_learning, cuhk03, face, "
    )


def test_a_file_elsewhere_extends_one_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("extends: osnet_x0_5\nname: own\ntrain: {epochs: 7}")
    config = load_config(path)
    assert (config.name, config.train.epochs) == ("own", 7)
    assert config.finetune == load_config(shipped_folder() / "osnet_x0_5.yaml").finetune
    (tmp_path / "osnet_x0_5").write_text("name: beside")  # a file beside it wins
    assert load_config(path).finetune != config.finetune
