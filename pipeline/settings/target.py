"""Where ``prune`` ends: an architecture, a share, a budget or a plan."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from pipeline.settings.section import Settings, Share, expand, registered
from reid_edge.models.registry import ARCHITECTURES

PLAN_SUFFIX = ".json"
Budget = Annotated[float, Field(gt=0)]


class WidthBudget(Settings):
    """The most that the compact model may cost; one of the three is given."""

    macs: Budget | None = None
    parameters: Budget | None = None
    latency: Share | None = None
    widths: Literal["by_loss", "uniform"] = "by_loss"

    @model_validator(mode="after")
    def _names_one(self) -> "WidthBudget":
        if sum(value is not None for value in (self.macs, self.parameters, self.latency)) != 1:
            raise ValueError("a budget names one of macs, parameters and latency")
        return self


# Pydantic puts the tag of a union's member among the keys of an error; this tells it from a key.
TAG_MARK = "("
NAME, SHARE, BUDGET = "(name)", "(share)", "(budget)"


Target = Annotated[
    Annotated[
        str,
        AfterValidator(
            lambda value: (
                str(expand(value))
                if value.endswith(PLAN_SUFFIX)
                else registered(value, ARCHITECTURES)
            )
        ),
        Tag(NAME),
    ]
    | Annotated[Share, Tag(SHARE)]
    | Annotated[WidthBudget, Tag(BUDGET)],
    Discriminator(
        lambda value: (
            NAME
            if isinstance(value, bool | str)
            else SHARE
            if isinstance(value, int | float)
            else BUDGET
        )
    ),
]
