"""The work of the stage ``quantize``: write int8 files, load them, measure and compare them."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from torch import fx, nn

from pipeline.calibration import (
    check_held_back,
    describe_images,
    draw_calibration,
)
from pipeline.context import StageContext
from pipeline.exporters import model_metadata
from pipeline.found_images import FOUND
from pipeline.rank_calibration import ask_calibration, ask_embeddings
from pipeline.run_dir import CALIBRATION_FILE, INT8_FILE, METRICS
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stage_results import (
    Int8Variant,
    ModelResult,
    QatTraining,
    Quantization,
    QuantizeResult,
    main_measure,
    main_value,
)
from pipeline.stages.float_layers import choose_float_layers, warn_of_ignored
from pipeline.stages.iteration import write_metrics
from pipeline.stages.qat_training import train_qat
from pipeline.stages.quantize import QuantizeStage
from quantize.agreement import Reference
from quantize.calibrate import Scheme, calibrate
from quantize.count import quantization_report
from quantize.exporters.torchscript import save_torchscript
from quantize.measurements import QuantizationReport
from quantize.static import convert_calibrated
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import ModelError
from reid_edge.core.int8_engine import quantized_engine
from reid_edge.core.io import write_bytes
from reid_edge.core.model_file import ModelMetadata
from reid_edge.inference.backends.torchscript_runtime import load_torchscript

REPORT = "quantization.json"

logger = logging.getLogger(__name__)


def make_int8(context: StageContext[QuantizeStage]) -> QuantizeResult:
    """Write ``int8.pt``, ``metrics.json`` and ``quantization.json``; return the result.

    Quantization-aware training also writes ``int8_static.pt`` and ``int8_qat.pt``; ``int8.pt`` is
    a copy of the one that is nearer to the float model on the held-back images.
    """
    settings = context.settings
    model, info = context.load_parent()
    drawn = draw_calibration(context, settings.calibration_images, settings.held_back_images)
    images = describe_images(drawn.calibration, context.data.root)
    check_held_back(settings, len(context.data.train), held_back=len(drawn.held_back))
    reference = None
    if drawn.held_back:
        reference = Reference(model, context.batches(drawn.held_back), ask_embeddings(context))
    metadata = replace(model_metadata(context, info), calibration_digest=images.digest)
    scheme = Scheme(settings.engine, settings.per_channel, settings.observer, settings.float_layers)
    calibrated = calibrate(
        model, context.batches(drawn.calibration), scheme, ask=ask_calibration(context)
    )
    choice = choose_float_layers(context, model, calibrated, reference)
    correct = settings.bias_correction
    models = {"static": convert_calibrated(choice.calibrated, bias_correction=correct)}
    training: QatTraining | None = None
    if settings.mode == "qat":
        assert reference is not None
        trained, training = train_qat(context, model, choice.calibrated, reference, drawn.held_back)
        if trained is not None:
            models["qat"] = convert_calibrated(trained, bias_correction=False)
    in_float = choice.calibrated.scheme.float_layers
    files = {}
    for variant, int8 in models.items():
        try:
            files[variant] = _write(context, model, int8, variant, metadata, reference, in_float)
        except ModelError as error:
            if variant != "qat":
                raise
            # As where training diverges; static int8 is kept.
            logger.warning("quantize: int8_qat.pt is of no use: %s", error)
            (context.folder / "int8_qat.pt").unlink()
            (context.folder / f"qat-{FOUND}").unlink(missing_ok=True)
    variants = {name: variant for name, (_, variant) in files.items()}
    kept, decision = _choose(context, variants)
    report, chosen = files[kept]
    warn_of_ignored(settings.float_layers, report)
    path = context.folder / INT8_FILE
    if chosen.file != INT8_FILE:
        write_bytes(path, (context.folder / chosen.file).read_bytes())
    quantization = Quantization(
        report=report,
        summary=_summary(report),
        engine=settings.engine,
        mode=settings.mode,
        variants=variants,
        kept=kept,
        decision=decision,
        calibration_digest=images.digest,
        scan=choice.scan,
        budget=choice.budget,
        training=training,
    )
    for variant in variants:
        found = context.folder / f"{variant}-{FOUND}"
        # Without identities there are no queries that could find anybody.
        if variant == kept and found.exists():
            found.replace(context.folder / FOUND)
        else:
            found.unlink(missing_ok=True)
    write_metrics(context.folder / METRICS, chosen.metrics)
    write_bytes(context.folder / REPORT, quantization.to_json())
    write_bytes(context.folder / CALIBRATION_FILE, images.to_json())
    cost = model_cost(model, context.example())
    return QuantizeResult(
        model=ModelResult(
            name=f"{info.architecture} int8",
            file=f"{context.stage}/{INT8_FILE}",
            parameters=cost.parameters,
            macs=cost.macs,
            bytes=path.stat().st_size,
            metrics=chosen.metrics,
            engine=settings.engine,
        ),
        quantization=quantization,
    )


def _write(
    context: StageContext[QuantizeStage],
    model: nn.Module,
    int8: fx.GraphModule,
    variant: str,
    metadata: ModelMetadata,
    reference: Reference | None,
    float_layers: tuple[str, ...],
) -> tuple[QuantizationReport, Int8Variant]:
    """Write a file, load it again and measure it."""
    settings = context.settings
    name = INT8_FILE if settings.mode == "static" else f"int8_{variant}.pt"
    path = context.folder / name
    strings = replace(metadata, variant=variant).to_strings()
    save_torchscript(int8, context.example(), path, strings, engine=settings.engine)
    report = quantization_report(model, int8, float_layers=float_layers)
    logger.info("quantize: %s: %s", name, _summary(report))
    loaded, _ = load_torchscript(path, settings.engine)
    with quantized_engine(settings.engine):
        found = context.folder / f"{variant}-{FOUND}"
        metrics = evaluate_stage(loaded, context, device="cpu", found=found)
    agreement = reference.agreement(loaded, settings.engine) if reference else None
    return report, Int8Variant(file=name, metrics=metrics, agreement=agreement)


def _choose(
    context: StageContext[QuantizeStage], variants: Mapping[str, Int8Variant]
) -> tuple[str, str]:
    """Return the variant that is nearest to the float model (of equal ones static), and why.

    The reason is logged; with static int8 alone it is empty.
    """
    errors = {
        name: variant.agreement.mean_cosine_error
        for name, variant in variants.items()
        if variant.agreement is not None
    }
    kept = min(errors, key=errors.__getitem__) if errors else "static"
    if context.settings.mode != "qat":
        return kept, ""
    if "qat" not in variants:
        decision = (
            "quantization-aware training diverged: static int8 is kept as int8.pt; lower "
            "quantize.qat.learning_rate"
        )
        logger.warning("quantize: %s", decision)
        return kept, decision
    trained, static = variants["qat"], variants["static"]
    assert trained.agreement is not None, "training needs images held back"
    assert static.agreement is not None, "training needs images held back"
    better = "better" if kept == "qat" else "not better"
    distance = context.config.evaluation.distance
    scores = [main_value(one.metrics, "person", distance) or 0 for one in (trained, static)]
    decision = (
        f"quantization-aware training is {better} than static int8 on "
        f"{static.agreement.images} training images held back (mean 1 - cosine to the "
        f"float model {trained.agreement.mean_cosine_error:.5f} against "
        f"{static.agreement.mean_cosine_error:.5f}); {main_measure(static.metrics, 'person')} "
        f"{scores[0]:.1%} against "
        f"{scores[1]:.1%}; int8.pt is {variants[kept].file}"
    )
    logger.log(logging.INFO if kept == "qat" else logging.WARNING, "quantize: %s", decision)
    return kept, decision


def _summary(report: QuantizationReport) -> str:
    left = ", ".join(f"{layer.name} ({layer.reason})" for layer in report.left_in_float)
    return (
        f"{report.int8_convolutions} of {report.convolutions} convolutions and "
        f"{report.int8_linear_layers} of {report.linear_layers} linear layers are int8; "
        f"left in float: {left or 'none'}"
    )
