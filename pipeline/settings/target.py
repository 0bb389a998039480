"""Where ``prune`` ends: an architecture, a share, a budget or a plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from pipeline.settings.section import FilePath, Settings, Share, expand, registered
from reid_edge.models.registry import ARCHITECTURES

PLAN_SUFFIX = ".json"
Budget = Annotated[float, Field(gt=0)]
RuntimeName = Literal["onnx", "onnx_int8", "openvino", "openvino_int8", "c"]


@dataclass(frozen=True)
class Runtime:
    """What runs a file, and which widths it is fast with.

    Attributes:
        multiple: widths are multiples of it.
        kind: of the files, as a device's result names it; none: the script of a pack has no reader.
    """

    multiple: int
    kind: str | None = None


# docs/results/latency.md says what other widths cost; all have vectors of 8 or 16 numbers.
RUNTIMES: Mapping[str, Runtime] = {
    "onnx": Runtime(8, "onnx"),
    "onnx_int8": Runtime(16, "onnx"),
    "openvino": Runtime(16),
    "openvino_int8": Runtime(16),
    "c": Runtime(16),
}


class WidthBudget(Settings):
    """The most that the compact model may cost; one of the first four is given."""

    macs: Budget | None = None
    parameters: Budget | None = None
    latency: float | None = None
    latency_ms: Budget | None = None
    widths: Literal["by_loss", "uniform"] = "by_loss"
    runtime: RuntimeName | None = None
    threads: int = Field(1, ge=1)
    table: FilePath | None = None

    @field_validator("latency")
    @classmethod
    def _is_a_share(cls, latency: float | None) -> float | None:
        if latency is not None and not 0 < latency <= 1:
            raise ValueError(
                "a share of the full-width model's latency in eager PyTorch on this machine, "
                "above 0 and up to 1 (0.5: half of it); for milliseconds, give "
                "{latency_ms: 2.0, runtime: onnx_int8}"
            )
        return latency

    @model_validator(mode="after")
    def _names_one(self) -> "WidthBudget":
        limits = (self.macs, self.parameters, self.latency, self.latency_ms)
        if sum(value is not None for value in limits) != 1:
            raise ValueError("a budget names one of macs, parameters and latency (or latency_ms)")
        if self.latency_ms is None:
            given = [name for name in ("runtime", "table") if getattr(self, name) is not None]
            given += ["threads"] if self.threads != 1 else []
            if given:
                raise ValueError(f"{given[0]} goes with latency_ms, a latency in milliseconds")
        elif self.runtime is None:
            names = ", ".join(RUNTIMES)
            raise ValueError(f"latency_ms needs a runtime that it is measured in: one of {names}")
        elif self.table is not None and RUNTIMES[self.runtime].kind is None:
            names = ", ".join(name for name, one in RUNTIMES.items() if one.kind is not None)
            raise ValueError(f"a table has latencies of ONNX files; give it a runtime of {names}")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of latency_ms, so that runs of before they were there still fit."""
        values: dict[str, Any] = dump(self)
        if self.latency_ms is None:
            for name in ("latency_ms", "runtime", "threads", "table"):
                values.pop(name, None)
        return values


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
