"""Settings of a training that do not go together are refused."""

import pytest
from pydantic import ValidationError

from reid_edge.core.errors import TrainingError
from reid_edge.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"schedule": "step"}, "schedule step needs milestones, such as [40, 60]"),
        ({"milestones": [3, 3]}, "must rise from one to the next"),
        ({"milestones": [0, 3]}, "greater than or equal to 1"),
        ({"frozen_epochs": 1}, "frozen_epochs needs frozen_layers, such as [conv1, conv2]"),
        (
            {"fused_optimizer": True, "gradient_clip": 1, "precision": "bf16-mixed"},
            "fused_optimizer does not go with gradient_clip in precision bf16-mixed",
        ),
    ],
)
def test_settings_that_do_not_go_together(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingSettings.model_validate(given)
    assert message in str(caught.value)


@pytest.mark.parametrize("losses", [{}, {"triplet": 0, "circle": 1}])
def test_losses_that_compare_images_of_a_person_need_two(losses: dict[str, float]) -> None:
    given = {"images_per_identity": 1, "losses": losses}
    settings = TrainingSettings.model_validate(given)
    with pytest.raises(TrainingError, match=r"^train.images_per_identity: 1 leaves no two images"):
        settings.check_pairs("train")
    for more in ({"losses": {"triplet": 0}}, {"epochs": 0}, {"images_per_identity": 2}):
        TrainingSettings.model_validate(given | more).check_pairs("train")
