"""Multiply-accumulates of PyTorch's operators, counted while a model runs.

Operators are seen below the modules, so functions (``torch.matmul``) count like layers.
Element-wise products, sums, pooling, normalisation and interpolation do not count, as in the papers
that give multiply-accumulates.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reid_edge.core.errors import ModelError

ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)  # fmt: skip
# Words in the names of operators that multiply.
MULTIPLYING = {
    "mm", "bmm", "addmm", "baddbmm", "addbmm", "smm", "hspmm", "sspaddmm", "matmul", "dot", "vdot",
    "mv", "addmv", "linear", "bilinear", "trilinear", "conv", "conv1d", "conv2d", "conv3d",
    "depthwise2d", "convolution", "attention", "transformer", "rnn", "lstm", "gru", "einsum",
    "cdist", "pdist", "fft", "linalg", "inverse", "cholesky", "svd", "solve", "spsolve", "qr", "lu",
    "geqrf", "ormqr", "orgqr",
}  # fmt: skip
# Operators with such words that do not multiply matrices: interpolation, norms, views, the sums
# behind a recurrent layer's products, and the packing of weights.
NOT_MULTIPLYING = re.compile(
    "upsample|linalg_(vector_norm|norm|_powsum|cross|diagonal|check_errors)|slice_inverse|"
    "thnn_fused|.*(flatten_weight|reorder|prepack)"
)
# Operators of these namespaces are known; those of others are extensions.
NAMESPACES = ("aten", "prim", "prims", "profiler", "torchvision")


class MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiply-accumulates of all operators that run in its context.

    Attributes:
        calls: (name, multiply-accumulates) of every operator that multiplies, in order; the name is
            that of the innermost module that is called, empty outside of all modules.
        read: identities (:func:`id`) of the parameters that operators read.
        exact: False if a batch without images hides how much an operator would do for an image.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, int]] = []
        self.read: set[int] = set()
        self.exact = True
        # Name, class, and whether the batch is the only size of its input beside the channels.
        self._stack: list[tuple[str, str, bool]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which takes seconds."""
        return False

    def enter(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Take over the counts until ``leave``; a forward pre-hook."""
        rows = isinstance(module, nn.Linear) and bool(inputs) and inputs[0].dim() == 2
        self._stack.append((name, type(module).__name__, rows))

    def leave(self, *_: object) -> None:
        """End what ``enter`` began; a forward hook."""
        self._stack.pop()

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and count it.

        Raises:
            ModelError: it multiplies and has no formula.
        """
        kwargs = kwargs or {}
        namespace, _, operator = func.name().partition(".")[0].partition("::")
        formula = FORMULAS.get(f"{namespace}::{operator.removesuffix('_')}")
        # An operator that is made of others arrives whole in inference mode.
        whole = torch.is_inference_mode_enabled() or namespace != "aten" or _multiplies(operator)
        if formula is None and whole:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        self.read.update(id(arg) for arg in args if isinstance(arg, nn.Parameter))
        name, kind, rows = self._stack[-1] if self._stack else ("", "", False)
        if formula is not None:
            count = formula(result, *args)
            is_convolution = operator.endswith(("convolution", "conv2d"))
            empty = any(isinstance(arg, Tensor) and arg.numel() == 0 for arg in args)
            self.exact = self.exact and (not empty or is_convolution or rows)
            self.calls.append((name, count))
        elif namespace not in NAMESPACES or (namespace == "aten" and _multiplies(operator)):
            from torch.utils.flop_counter import flop_registry

            flops = flop_registry.get(func._overloadpacket)
            if flops is None:
                place = f"module {name!r} ({kind})" if name else "the forward pass of the model"
                raise ModelError(
                    f"{place} calls {func.name()!r}, whose multiplications cannot be counted: "
                    "write it with convolution, linear or matmul, or register a formula with "
                    "torch.utils.flop_counter.register_flop_formula"
                )
            # PyTorch counts a multiplication and an addition as two.
            self.calls.append((name, int(flops(*args, **kwargs, out_val=result)) // 2))
        return result


def _multiplies(operator: str) -> bool:
    is_named_so = not MULTIPLYING.isdisjoint(operator.split("_"))
    return is_named_so and NOT_MULTIPLYING.match(operator.lstrip("_")) is None


@contextmanager
def counting_macs(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[MacCounter]:
    """Count the multiply-accumulates of what runs in the context.

    Attention takes PyTorch's slow path, whose operators are known; the result is the same.

    Args:
        modules: to which operators are attributed, with their names; a name may occur several
            times.

    Raises:
        ModelError: an operator multiplies that has no formula; the message names it and its module.
    """
    counter = MacCounter()
    handles = []
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        for name, module in modules:
            handles.append(module.register_forward_pre_hook(partial(counter.enter, name)))
            handles.append(module.register_forward_hook(counter.leave))
        torch.backends.mha.set_fastpath_enabled(False)
        with counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()


def _sizes(shape: Iterable[int]) -> int:
    # A size of zero is that of a batch without images.
    return math.prod(size or 1 for size in shape)


def matmul_macs(_out: Tensor, left: Tensor, right: Tensor, *_: Any) -> int:
    """Count (..., M, K) by (..., K, N), or by (K,)."""
    return _sizes(left.shape) * (right.shape[-1] if right.dim() > 1 else 1)


def added_macs(out: Tensor, _added: Tensor, left: Tensor, right: Tensor, *_: Any) -> int:
    """Count a matrix product that is added to another tensor."""
    return matmul_macs(out, left, right)


def convolution_macs(
    out: Tensor, given: Tensor, weight: Tensor, _bias: Any, _stride: Any, _padding: Any,
    _dilation: Any, transposed: bool, *_: Any,
) -> int:  # fmt: skip
    """Count each weight once for each place, of the input if transposed."""
    places = given if transposed else out
    return _sizes((len(given), *places.shape[2:])) * weight.numel()


def attention_macs(_out: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    """Count the scores (..., queries, keys), and their products with the values."""
    scores = _sizes(query.shape[:-1]) * key.shape[-2]
    return scores * (query.shape[-1] + value.shape[-1])


def layer_macs(_out: Any, given: Tensor, to_hidden: Tensor, recurrent: Tensor, *_: Any) -> int:
    """Count a recurrent layer on (steps, N, C): each weight once for each step."""
    return _sizes(given.shape[:2]) * (to_hidden.numel() + recurrent.numel())


def rnn_macs(_out: Any, given: Tensor, weights: list[Tensor], *_: Any) -> int:
    """Count several recurrent layers on (steps, N, C), whose biases have one dimension."""
    return _sizes(given.shape[:2]) * sum(weight.numel() for weight in weights if weight.dim() > 1)


def bilinear_macs(_out: Tensor, left: Tensor, weight: Tensor, _right: Tensor, *_: Any) -> int:
    """Count each weight (out, in, in) once for each row."""
    return _sizes(left.shape[:-1]) * weight.numel()


def distance_macs(_out: Tensor, left: Tensor, right: Tensor, *_: Any) -> int:
    """Count the distances between rows (M, C) and (N, C)."""
    return _sizes(left.shape) * right.shape[-2]


def deformable_macs(out: Tensor, _given: Tensor, weight: Tensor, *_: Any) -> int:
    """Count as a convolution does, without the interpolation of its inputs."""
    return _sizes((len(out), *out.shape[2:])) * weight.numel()


FORMULAS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(
        ("aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot", "aten::_int_mm",
         "aten::_scaled_mm"), matmul_macs,
    ),
    **dict.fromkeys(
        ("aten::addmm", "aten::baddbmm", "aten::addbmm", "aten::addmv", "aten::_addmm_activation"),
        added_macs,
    ),
    "aten::convolution": convolution_macs, "aten::_convolution": convolution_macs,
    **{f"aten::{name}": attention_macs for name in ATTENTION},
    "aten::mkldnn_rnn_layer": layer_macs, "aten::_cudnn_rnn": rnn_macs,
    "aten::_trilinear": bilinear_macs, "aten::_cdist_forward": distance_macs,
    "torchvision::deform_conv2d": deformable_macs,
}  # fmt: skip
"""Multiply-accumulates by operator, as a function of its result and its arguments."""
