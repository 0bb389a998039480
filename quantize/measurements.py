"""Results of measurements of int8 models and model files: plain data, without PyTorch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parity:
    """How a file's embeddings compare with the model's, at unit length.

    Attributes:
        images: number of images that were compared.
        mean_cosine: mean over the images of the cosine between both embeddings.
        lowest_cosine: lowest cosine of an image.
        same_nearest: share of the queries whose nearest gallery image is the same.
        nearest_overlap: share of the ten nearest gallery images that are the same, the mean.
        spread: variance of the file's embeddings over the images, summed over the dimensions;
            between 0 (all are the same) and 1.
        model_spread: the same of the model's embeddings.
        batch_difference: the largest difference between an image's embeddings in batches of 1, 2
            and 7.
    """

    images: int
    mean_cosine: float
    lowest_cosine: float
    same_nearest: float
    nearest_overlap: float
    spread: float
    model_spread: float
    batch_difference: float


@dataclass(frozen=True)
class Agreement:
    """Differences between embeddings of the same images, none of them negative.

    Attributes:
        images: number of images that were compared.
        mean_cosine_error: mean of 1 - cosine.
        largest_cosine_error: largest of 1 - cosine.
        mean_relative_error: mean of ``|a - b| / |b|``, b being the float embedding.
    """

    images: int
    mean_cosine_error: float
    largest_cosine_error: float
    mean_relative_error: float


@dataclass(frozen=True)
class FloatLayer:
    """A layer that was left in float.

    Attributes:
        name: its name in the float model; of an operator that is no module, its name in the graph.
        kind: class of the layer, or name of the operator.
        reason: why it is not int8.
    """

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class QuantizationReport:
    """How much of a model is int8.

    Attributes:
        convolutions: convolutions of the float model that are called in evaluation mode.
        int8_convolutions: those of them that are int8 wherever they are called.
        call_sites: calls of convolutions; more than ``convolutions`` where some are shared.
        int8_call_sites: those that are int8.
        linear_layers: linear layers of the float model that are called in evaluation mode.
        int8_linear_layers: those of them that are int8.
        left_in_float: layers and operators that compute in float.
        quantize_nodes: conversions from float to int8.
        dequantize_nodes: conversions from int8 to float.
    """

    convolutions: int
    int8_convolutions: int
    call_sites: int
    int8_call_sites: int
    linear_layers: int
    int8_linear_layers: int
    left_in_float: tuple[FloatLayer, ...]
    quantize_nodes: int
    dequantize_nodes: int

    def __str__(self) -> str:
        lines = [
            f"int8 convolutions     {self.int8_convolutions} of {self.convolutions}",
            f"int8 call sites       {self.int8_call_sites} of {self.call_sites}",
            f"int8 linear layers    {self.int8_linear_layers} of {self.linear_layers}",
            f"quantize nodes        {self.quantize_nodes}",
            f"dequantize nodes      {self.dequantize_nodes}",
            f"left in float         {len(self.left_in_float)}",
        ]
        lines += [f"  {layer.name} ({layer.kind}): {layer.reason}" for layer in self.left_in_float]
        return "\n".join(lines)


@dataclass(frozen=True)
class LayerSensitivity:
    """What int8 costs in one layer, or in layers that belong together.

    Attributes:
        layer: name of a module; the costs are those of all layers inside it.
        weighted_layers: convolutions and linear layers in it.
        weights: their weights; each takes three bytes more in float.
        macs: their multiply-accumulates for an image, which float is slower at.
        alone: mean 1 - cosine of the embeddings if only its weights and outputs are int8.
        saved: the same without the outputs that other layers read, since those are int8 anyway.
            Leaving the layer in float saves this error.
    """

    layer: str
    weighted_layers: int
    weights: int
    macs: int
    alone: float
    saved: float


@dataclass(frozen=True)
class Sensitivity:
    """What int8 costs in a model, layer by layer.

    Attributes:
        everything: mean 1 - cosine with everything int8, before bias correction.
        image: the same with only the input int8.
        operators: the same with only the outputs of operators outside all layers int8 (sums,
            products, pooling), which cannot be left in float.
        layers: those that save most first, by ``saved``.
    """

    everything: float
    image: float
    operators: float
    layers: tuple[LayerSensitivity, ...]


@dataclass(frozen=True)
class BudgetStep:
    """An int8 model with some layers in float.

    Attributes:
        float_layers: names of the layers.
        agreement: comparison with the float model.
    """

    float_layers: tuple[str, ...]
    agreement: Agreement


@dataclass(frozen=True)
class Timing:
    """The time of one call.

    Attributes:
        batch: number of images.
        threads: number of threads.
        median_ms: median over the rounds, in milliseconds.
        lower_quartile_ms: a quarter of the rounds were at least as fast.
        upper_quartile_ms: a quarter of the rounds were at least as slow.
        cpu_ms: median processor time of all threads, in milliseconds.
        speedup: how many times as fast as the first model: median over the rounds of the first
            model's time divided by this one's in the same round.
        images_per_second: batch divided by the median.
    """

    batch: int
    threads: int
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    cpu_ms: float
    speedup: float
    images_per_second: float


@dataclass(frozen=True)
class Measurement:
    """What was measured of one model.

    Attributes:
        peak_bytes: peak memory at batch 1 on one thread, including loading, without the interpreter
            and its libraries; None if the system does not report it.
        timings: one for each batch and number of threads.
    """

    peak_bytes: int | None
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class Machine:
    """The machine that a latency was measured on.

    Attributes:
        cpu: name of the processor.
        architecture: architecture of the processor, such as "x86_64".
        flags: instructions for int8 kernels that the processor has.
        cores: number of cores that this process may use.
        threads: number of threads of a call.
        torch: version of PyTorch.
        onnxruntime: version of ONNX Runtime; None if it is not installed.
        openvino: version of OpenVINO; None if it is not installed.
        executorch: version of ExecuTorch; None if it is not installed.
        torch_capability: instructions that PyTorch uses.
        engine: the current int8 engine of PyTorch.
        supported_engines: all int8 engines of PyTorch on this machine.
        ncnn: version of NCNN; None if it is not installed.
        mnn: version of MNN; None if it is not installed.
        litert: version of LiteRT; None if it is not installed.
    """

    cpu: str
    architecture: str
    flags: tuple[str, ...]
    cores: int
    threads: int
    torch: str
    onnxruntime: str | None
    openvino: str | None
    executorch: str | None
    torch_capability: str
    engine: str
    supported_engines: tuple[str, ...]
    ncnn: str | None = None
    mnn: str | None = None
    litert: str | None = None
