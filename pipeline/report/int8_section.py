"""The int8 model in the report: agreement with the float model, and latency."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.report.accuracy import accuracy_cells
from pipeline.report.charts import Series, Value, chart
from pipeline.stage import ReportSection
from pipeline.stage_results import Latencies, QuantizeResult, StageRecord
from quantize.measurements import Sensitivity


def _footnotes(record: StageRecord, latency: Latencies | None) -> list[str]:
    """Return how fast int8 is, what is int8, and how near to the float model it is."""
    quantization = record.result_as(QuantizeResult).quantization
    static = quantization.variants.get("static")
    lines: list[str] = []
    if latency is not None:
        timed = [model for model in latency.models if model.stage == record.stage]
        engine = record.result.model.engine if record.result.model else None
        if timed and engine == "qnnpack" and latency.machine.architecture == "x86_64":
            lines.append(
                "int8 latency: QNNPACK is built for ARM; its time on this x86-64 machine says "
                "little about the device, measure there"
            )
        lines += [
            f"int8 latency: the same file on the {model.engine} engine takes "
            f"{model.median_ms:.1f} ms, {1 / model.ratio:.1f} times as fast as the first row"
            for model in timed
            if model.engine is not None
        ]
    lines.append(f"int8: {quantization.summary}")
    if quantization.decision:
        lines.append(f"int8: {quantization.decision}")
    elif static is not None and static.agreement is not None:
        agreement = static.agreement
        lines.append(
            f"int8: cosine to the float model {1 - agreement.mean_cosine_error:.4f} on average, "
            f"{1 - agreement.largest_cosine_error:.4f} at worst, on {agreement.images} "
            "training images held back"
        )
    return lines


def int8_error_chart(scan: Sensitivity) -> Markup:
    """Draw the error of each layer, those first that save most in float."""

    def values(attribute: str, words: str) -> list[Value]:
        return [
            Value(number, error, f"{layer.layer}, {words}: {error:.3f}")
            for number, layer in enumerate(scan.layers, start=1)
            for error in [1000 * getattr(layer, attribute)]
        ]

    return chart(
        "Error of int8 by layer, those first that save most in float",
        [
            Series("alone", values("alone", "only this layer int8"), line=False),
            Series("saved", values("saved", "saved by float"), steps=True, points=False),
        ],
        across="layer, those first that save most", up="1 - cosine, times 1000", from_zero=True,
    )  # fmt: skip


INT8_SECTION = ReportSection(
    footnotes=_footnotes, template="int8.html.j2", filters=(int8_error_chart, accuracy_cells)
)
