"""How many of the dearest layers stay in float, so that int8 keeps to an accuracy budget."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from quantize.agreement import Agreement


@dataclass(frozen=True)
class BudgetStep:
    """An int8 model with some layers in float.

    Attributes:
        float_layers: which.
        agreement: with the float model.
    """

    float_layers: tuple[str, ...]
    agreement: Agreement

    def to_dict(self) -> dict[str, Any]:
        """Return the step as what JSON can hold."""
        return {"float_layers": list(self.float_layers), "agreement": self.agreement.to_dict()}


def leave_dearest_in_float(
    measure: Callable[[tuple[str, ...]], Agreement],
    ranked: Sequence[str],
    *,
    budget: float,
    most: int,
) -> Iterator[BudgetStep]:
    """Leave one layer after another in float until the error is within a budget.

    Args:
        measure: makes an int8 model with these layers in float and compares it.
        ranked: layers, dearest first.
        budget: largest mean 1 - cosine that is allowed.
        most: how many layers may be left in float.

    Yields:
        Every step, beginning with none in float; the last one is within the budget, or has as
        many layers in float as is allowed.
    """
    for count in range(min(most, len(ranked)) + 1):
        chosen = tuple(ranked[:count])
        step = BudgetStep(chosen, measure(chosen))
        yield step
        if step.agreement.mean_cosine_error <= budget:
            return
