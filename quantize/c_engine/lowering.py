"""From a network to the engine's layers: fused, in fixed-point arithmetic, with planned memory.

What is fused is rounded once instead of several times, so the result is nearer to the float model
than the file's own rounding: a convolution and the tensor that is added to it, the gated streams of
a block and their sum, a gate from its mean to its factors, the embedding from the last mean on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from quantize.c_engine.arena import plan_arena
from quantize.c_engine.engine_layers import (
    GROUP,
    Kind,
    Layer,
    Plane,
    Program,
    Weights,
    padded_channels,
)
from quantize.c_engine.fixed_point import (
    padded,
    rescaling,
    shift_and_multiplier,
    sum_bits,
    wide_factor,
)
from quantize.c_engine.fusion import MOST_INPUTS, Fusion, Gate, is_depthwise, quantized
from quantize.c_engine.network import (
    Concatenation,
    Convolution,
    Elementwise,
    GlobalPooling,
    InstanceNorm,
    Network,
    Operation,
    Pooling,
    Product,
    Sum,
    Value,
)
from quantize.c_engine.packing import dense, packed_weights
from reid_edge.core.errors import QuantizeError

# The argument of a gate's function in 1 / 4096, from -12 to 12, looked up in steps of 64.
GATE_STEP, GATE_RANGE, GATE_UNIT = 64, 12, 4096
# Rows of taps that a kernel's job has room for, as in types.h.
MOST_TAPS = 64
_MEAN_BITS = 8


def lower(network: Network) -> Program:
    """Return the layers of a network.

    Raises:
        QuantizeError: a combination of nodes is not supported; the message names a node.
    """
    return _Lowering(network).lower()


class _Lowering(Fusion):
    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.weights = Weights()
        self.planes: dict[Value, Plane] = {}
        self.extra_planes: list[Plane] = []
        self.layers: list[Layer] = []
        self.channel_sums: dict[Value, Plane] = {}
        self.border = (0, 0)

    def lower(self) -> Program:
        network = self.network
        image = self._image_plane()
        for operation in network.operations:
            if id(operation) not in self.absorbed:
                self._add(operation)
        self._add_embedding()
        planes = [*self.planes.values(), *self.extra_planes]
        arena, scratch = plan_arena(self.layers, image)
        quantization = quantized(network.image)
        return Program(
            planes=planes,
            layers=self.layers,
            weights=self.weights.content(),
            image=(network.image.height, network.image.width),
            image_scale=quantization.scale,
            image_zero=quantization.zero_point,
            border=self.border,
            size=network.output.channels * network.output.height * network.output.width,
            unit_length=network.unit_length,
            arena=arena,
            scratch=scratch,
        )

    # Planes.

    def _image_plane(self) -> Plane:
        """Return the image's plane: four bytes a pixel, with the border that its layer needs."""
        image = self.network.image
        readers = self.consumers[image]
        first = readers[0]
        if len(readers) != 1 or not isinstance(first, Convolution) or first.groups != 1:
            raise QuantizeError(
                f"node {first.name!r}: images have to go into one convolution and nothing else"
            )
        top, left, bottom, right = first.padding
        self.border = top, left
        # A row of taps is read as whole groups of 16 bytes.
        plane = Plane(
            image.name,
            image.height + top + bottom,
            image.width + left + right + 4,
            4,
            quantized(image).zero_point,
        )
        self.planes[image] = plane
        return plane

    def _plane(self, value: Value) -> Plane:
        if value not in self.planes:
            zero = quantized(value).zero_point
            channels = padded_channels(value.channels)
            self.planes[value] = Plane(value.name, value.height, value.width, channels, zero)
        return self.planes[value]

    def _factors(self, name: str, channels: int) -> Plane:
        """Return memory for a 16-bit factor, a 32-bit start and a shift of each channel."""
        plane = Plane(f"factors of {name}", 1, 1, 12 * padded_channels(channels))
        self.extra_planes.append(plane)
        return plane

    # Layers.

    def _add(self, operation: Operation) -> None:
        if isinstance(operation, Convolution):
            if operation in self.depthwise_of:
                self._add_light(self.depthwise_of[operation], operation)
            elif is_depthwise(operation):
                self._add_depthwise(operation)
            else:
                self._add_convolution(operation, operation.y, None)
        elif isinstance(operation, Sum) and operation in self.residuals:
            conv, other = self.residuals[operation]
            self._add_convolution(conv, operation.y, other)
        elif isinstance(operation, Sum) or operation in self.terms:
            self._add_sum(operation)
        elif isinstance(operation, Pooling):
            self._add_pooling(operation)
        elif isinstance(operation, GlobalPooling):
            x, none = operation.x, (0, 0, 0, 0)
            whole = (x.height, x.width)
            self._add_pooling(
                Pooling(operation.name, x, operation.y, "average", whole, (1, 1), none)
            )
        elif isinstance(operation, Elementwise):
            self._add_table(operation.name, operation.x, operation.y, 0, operation.function)
        elif isinstance(operation, Concatenation):
            start = 0
            for value in operation.inputs:
                self._add_table(operation.name, value, operation.y, start, lambda x: x)
                start += value.channels
        elif isinstance(operation, Product):
            self._add_product(operation)
        elif isinstance(operation, InstanceNorm):
            self._add_norm(operation)
        else:
            raise QuantizeError(
                f"node {operation.name!r}: {type(operation).__name__} is supported in a gate and "
                "at the end of the network only"
            )

    def _layer(
        self, kind: Kind, name: str, y: Value | Plane | None, inputs: Iterable[Value | Plane],
        numbers: dict[str, int], *, scratch: int = 0, macs: int = 0,
        gates: tuple[Plane | None, ...] = (), sums: Plane | None = None,
    ) -> None:  # fmt: skip
        planes = tuple(self._plane(x) if isinstance(x, Value) else x for x in inputs)
        out = self._plane(y) if isinstance(y, Value) else y
        self.layers.append(Layer(kind, name, out, planes, gates, numbers, scratch, macs, sums))

    def _add_convolution(self, conv: Convolution, y: Value, other: Value | None) -> None:
        x, result = quantized(conv.x), quantized(y)
        residual = None if other is None else quantized(other)
        weight = dense(conv)
        numbers = rescaling(
            weight,
            conv.weight_scale * x.scale,
            conv.bias,
            input_zero=x.zero_point,
            output_scale=result.scale,
            residual=None if residual is None else (residual.scale, residual.zero_point),
        )
        rows, columns = weight.shape[2:]
        plane = self._plane(conv.x)
        top, left, bottom, right = (0, 0, 0, 0) if conv.x is self.network.image else conv.padding
        # Taps side by side are one row of bytes, unless they are dilated.
        joined = conv.dilation[1] == 1
        stored = packed_weights(numbers.weight, plane.channels, joined=joined)
        taps, row_bytes = stored.shape[1], stored.shape[2] * 4
        if taps > MOST_TAPS:
            raise QuantizeError(
                f"node {conv.name!r}: {rows} x {columns} dilated taps are more than {MOST_TAPS}"
            )
        border = (plane.width + left + right) * (plane.height + top + bottom) * plane.channels
        panel = 32 * taps * row_bytes
        fields = {
            "weights": self.weights.add(stored),
            **self._rescaling_fields(numbers),
            "kernel_height": rows,
            "kernel_width": columns,
            "stride_y": conv.stride[0],
            "stride_x": conv.stride[1],
            "pad_top": top,
            "pad_left": left,
            "pad_bottom": bottom,
            "pad_right": right,
            "dilation_y": conv.dilation[0],
            "dilation_x": conv.dilation[1],
            "taps": taps,
            "row_bytes": row_bytes,
            "has_residual": int(other is not None),
        }
        self._layer(
            "CONVOLUTION",
            conv.name,
            y,
            [conv.x] if other is None else [conv.x, other],
            fields,
            scratch=(border if any((top, left, bottom, right)) else 0) + panel + 1024,
            macs=conv.weight.size * conv.y.height * conv.y.width,
        )

    def _rescaling_fields(self, numbers: Any, prefix: str = "") -> dict[str, int]:
        fields = {
            f"{prefix}bias": self.weights.add(padded(numbers.bias)),
            f"{prefix}shift": self.weights.add(padded(numbers.shift)),
            f"{prefix}multiplier": self.weights.add(padded(numbers.multiplier)),
        }
        if numbers.residual.any():
            fields["residual"] = self.weights.add(padded(numbers.residual))
        return fields

    def _add_light(self, point: Convolution, depth: Convolution) -> None:
        x, middle, result = (quantized(v) for v in (point.x, point.y, depth.y))
        first = rescaling(
            point.weight,
            point.weight_scale * x.scale,
            point.bias,
            input_zero=x.zero_point,
            output_scale=middle.scale,
        )
        second = rescaling(
            depth.weight,
            depth.weight_scale * middle.scale,
            depth.bias,
            input_zero=middle.zero_point,
            output_scale=result.scale,
        )
        plane = self._plane(point.x)
        stored = packed_weights(first.weight, plane.channels, joined=True)
        # For each group of 16 channels and each column: the three rows of a channel, and a zero.
        columns = padded(padded(second.weight[:, 0]), 4, axis=1)
        columns = columns.reshape(-1, GROUP, 4, 3).transpose(0, 3, 1, 2)
        channels = padded_channels(point.y.channels)
        pixels = point.y.height * point.y.width
        width = point.y.width
        self._layer(
            "LIGHT",
            depth.name,
            depth.y,
            [point.x],
            {
                "weights": self.weights.add(stored),
                **self._rescaling_fields(first),
                "taps": 1,
                "row_bytes": stored.shape[2] * 4,
                "depth_weights": self.weights.add(columns),
                **self._rescaling_fields(second, "depth_"),
                "middle_zero": middle.zero_point,
            },
            # Three blocks of four rows with a column on each side, and sums of one block, or two
            # such blocks and sums of NEON; and what tiles read behind the rows of the last block,
            # where the arena may end.
            scratch=max(
                12 * (width + 2) * channels + 512 * (width + 7),
                8 * (width + 8) * channels + 4 * GROUP * (4 * width + 32),
                4 * (width + 16) * plane.channels,
            )
            + 1024,
            macs=point.weight.size * pixels + depth.weight.size * pixels,
            sums=self._sums_of(depth.y),
        )

    def _sums_of(self, value: Value) -> Plane | None:
        """Return memory for the sums of a value's channels, if a gate needs them."""
        if all(gate.pooling.x is not value for gate in self.gates.values()):
            return None
        plane = Plane(f"sums of {value.name}", 1, 1, 4 * padded_channels(value.channels))
        self.extra_planes.append(plane)
        self.channel_sums[value] = plane
        return plane

    def _add_depthwise(self, conv: Convolution) -> None:
        x, result = quantized(conv.x), quantized(conv.y)
        numbers = rescaling(
            conv.weight,
            conv.weight_scale * x.scale,
            conv.bias,
            input_zero=x.zero_point,
            output_scale=result.scale,
        )
        rows, columns = conv.weight.shape[2:]
        taps = padded(numbers.weight.reshape(len(conv.weight), -1))
        stored = taps.reshape(-1, GROUP, rows * columns).transpose(0, 2, 1)
        self._layer(
            "DEPTHWISE",
            conv.name,
            conv.y,
            [conv.x],
            {
                "weights": self.weights.add(stored),
                **self._rescaling_fields(numbers),
                "kernel_height": rows,
                "kernel_width": columns,
                "stride_y": conv.stride[0],
                "stride_x": conv.stride[1],
                "pad_top": conv.padding[0],
                "pad_left": conv.padding[1],
                "dilation_y": conv.dilation[0],
                "dilation_x": conv.dilation[1],
            },
            macs=conv.weight.size * conv.y.height * conv.y.width,
        )

    def _add_sum(self, operation: Operation) -> None:
        assert isinstance(operation, Sum | Product)
        terms, result = self.terms[operation], quantized(operation.y)
        factors = [quantized(value).scale / result.scale for value, _ in terms]
        bits = sum_bits(factors)
        gates = tuple(
            None if gate is None else self._add_gate(gate, value, factor, bits)
            for (value, gate), factor in zip(terms, factors, strict=True)
        )
        whole = np.array([round(factor * 2.0**bits) for factor in factors], np.int32)
        self._layer(
            "SUM",
            operation.name,
            operation.y,
            [value for value, _ in terms],
            {"factors": self.weights.add(whole), "bits": bits},
            scratch=(2 * MOST_INPUTS + 8) * padded_channels(operation.y.channels) + 1024,
            gates=gates,
        )

    def _add_gate(self, gate: Gate, value: Value, factor: float, bits: int) -> Plane:
        """Add the layer that computes a gate's factors of a value; return where they are."""
        source, squeeze, excite = gate.pooling.x, gate.squeeze, gate.excite
        x, pixels = quantized(source), source.height * source.width
        # Hidden numbers in 2 ** -hidden_bits; the sums of their products are not rounded.
        scale = squeeze.weight_scale * x.scale / pixels
        rows = squeeze.weight.reshape(len(squeeze.weight), -1).astype(np.int64)
        start = np.round(squeeze.bias / scale).astype(np.int64) - pixels * x.zero_point * rows.sum(
            1
        )
        bound = int((np.abs(start) + 255 * pixels * np.abs(rows).sum(1)).max()) + 1
        hidden_bits = 29 - math.ceil(math.log2(max(float((scale * bound).max()), 1e-30)))
        first = [wide_factor(float(each) * 2.0**hidden_bits, bound) for each in scale]
        outer = excite.weight.reshape(len(excite.weight), -1).astype(np.int64)
        outer_scale = excite.weight_scale * 2.0**-hidden_bits
        outer_start = np.round(np.clip(excite.bias / outer_scale, -(2.0**52), 2.0**52))
        most = int((np.abs(outer_start) + 2**30 * np.abs(outer).sum(1)).max()) + 1
        second = [wide_factor(float(each) * GATE_UNIT, most) for each in outer_scale]
        places = np.arange(-GATE_RANGE * GATE_UNIT, GATE_RANGE * GATE_UNIT + GATE_STEP, GATE_STEP)
        table = np.round(gate.activation.function(places / GATE_UNIT) * 65536).astype(np.int32)
        plane = self._factors(gate.activation.name, value.channels)
        self._layer(
            "GATE",
            gate.activation.name,
            plane,
            [source, self.channel_sums[source]] if source in self.channel_sums else [source],
            {
                "hidden": len(rows),
                "channels": source.channels,
                "outputs": value.channels,
                "rectified": int(gate.rectified),
                "squeeze": self.weights.add(rows.astype(np.int8)),
                "squeeze_bias": self.weights.add(start),
                "squeeze_factor": self.weights.add(
                    np.array([f.multiplier for f in first], np.int32)
                ),
                "squeeze_after": self.weights.add(np.array([f.after for f in first], np.int32)),
                "squeeze_before": first[0].before,
                "excite": self.weights.add(outer.astype(np.int8)),
                "excite_bias": self.weights.add(outer_start.astype(np.int64)),
                "excite_factor": self.weights.add(
                    np.array([f.multiplier for f in second], np.int32)
                ),
                "excite_after": self.weights.add(np.array([f.after for f in second], np.int32)),
                "excite_before": second[0].before,
                "table": self.weights.add(table),
                "gate_factor": round(factor * 2.0**bits),
            },
            scratch=8 * (len(rows) + padded_channels(source.channels)) + 1024,
            macs=rows.size + outer.size,
        )
        return plane

    def _add_pooling(self, operation: Pooling) -> None:
        x, result = quantized(operation.x), quantized(operation.y)
        area = operation.kernel[0] * operation.kernel[1]
        shift, multiplier = shift_and_multiplier(x.scale / result.scale / area)
        if operation.kind == "max" and x != result:
            raise QuantizeError(f"node {operation.name!r}: max pooling that also rescales")
        if operation.kind == "average" and any(operation.padding):
            raise QuantizeError(f"node {operation.name!r}: average pooling with padding")
        self._layer(
            "MAX_POOL" if operation.kind == "max" else "AVERAGE_POOL",
            operation.name,
            operation.y,
            [operation.x],
            {
                "kernel_height": operation.kernel[0],
                "kernel_width": operation.kernel[1],
                "stride_y": operation.stride[0],
                "stride_x": operation.stride[1],
                "pad_top": operation.padding[0],
                "pad_left": operation.padding[1],
                "pool_shift": shift,
                "pool_multiplier": multiplier,
                "pool_bias": -x.zero_point * area + (1 << shift >> 1),
            },
        )

    def _add_table(self, name: str, x: Value, y: Value, channel: int, function: Any) -> None:
        source, result = quantized(x), quantized(y)
        numbers = source.scale * (np.arange(256) - source.zero_point)
        with np.errstate(over="ignore"):
            steps = np.round(function(numbers) / result.scale) + result.zero_point
        table = np.clip(steps, 0, 255).astype(np.uint8)
        fields = {
            "table": self.weights.add(table),
            "channels": x.channels,
            "first_channel": channel,
        }
        self._layer("TABLE", name, y, [x], fields)

    def _add_product(self, operation: Product) -> None:
        x, gate, result = (quantized(v) for v in (operation.x, operation.gate, operation.y))
        shift, multiplier = shift_and_multiplier(x.scale * gate.scale / result.scale)
        fields = {"pool_shift": shift, "pool_multiplier": multiplier, "pool_bias": 1 << shift >> 1}
        self._layer("PRODUCT", operation.name, operation.y, [operation.x, operation.gate], fields)

    def _add_norm(self, operation: InstanceNorm) -> None:
        """Add the layer that computes a factor and a start for each channel, and their use."""
        x, result = quantized(operation.x), quantized(operation.y)
        plane = self._factors(operation.name, operation.x.channels)
        gamma = padded(operation.gamma / result.scale)
        beta = padded(operation.beta / result.scale + result.zero_point)
        self._layer(
            "NORM",
            operation.name,
            plane,
            [operation.x],
            {
                "gamma": self.weights.add(gamma.astype(np.float64)),
                "beta": self.weights.add(beta.astype(np.float64)),
                "epsilon": self.weights.add(np.array([operation.epsilon / x.scale**2])),
                "channels": operation.x.channels,
            },
            scratch=24 * padded_channels(operation.x.channels) + 1024,
        )
        self._layer(
            "SUM",
            operation.name,
            operation.y,
            [operation.x],
            {"factors": self.weights.add(np.zeros(1, np.int32)), "bits": 0, "is_norm": 1},
            scratch=(2 * MOST_INPUTS + 8) * padded_channels(operation.y.channels) + 1024,
            gates=(plane,),
        )

    def _add_embedding(self) -> None:
        """Add the layer from the last plane to the embedding, in float at its end only."""
        features, size = self.features, self.network.output.channels
        x = quantized(features)
        pixels = features.height * features.width if self.pooled else 1
        unit = x.scale * 2.0**-_MEAN_BITS if self.pooled else x.scale
        fields: dict[str, int] = {"pooled": int(self.pooled), "clamped": int(self.clamped)}
        factor = np.ones(size) if self.affine is None else self.affine.factor
        shift = np.zeros(size) if self.affine is None else self.affine.shift
        if self.linear is None:
            if not self.pooled:
                size = features.channels * features.height * features.width
            scale = factor * unit
            zero = np.full(size, x.zero_point << (_MEAN_BITS if self.pooled else 0))
            real = shift
            macs = 0
        else:
            weight = self.linear.weight
            scale = factor * self.linear.weight_scale * unit
            counts = weight.reshape(size, -1).astype(np.int64).sum(1)
            zero = counts * (x.zero_point << (_MEAN_BITS if self.pooled else 0))
            real = shift + factor * self.linear.bias
            plane = self._plane(features)
            ordered = packed_weights(weight, plane.channels, joined=True)
            # Pixels of a whole plane follow each other: all taps are one row of bytes.
            whole = ordered.reshape(ordered.shape[0], 1, -1, GROUP, 4)
            fields |= {"weights": self.weights.add(whole), "row_bytes": whole.shape[2] * 4}
            macs = weight.size
        safe = np.where(scale == 0, 1, scale)
        start = np.clip(np.round(np.where(scale == 0, 0, real / safe)), -(2.0**60), 2.0**60)
        fields |= {
            "has_linear": int(self.linear is not None),
            "pixels": pixels,
            "embedding_bias": self.weights.add(start.astype(np.int64) - zero),
            "embedding_scale": self.weights.add(scale.astype(np.float64)),
        }
        channels = self._plane(features).channels
        scratch = 12 * channels + 16 * padded_channels(size) + 4096
        self._layer(
            "EMBEDDING", self.network.output.name, None, [features], fields,
            scratch=scratch, macs=macs,
        )  # fmt: skip
