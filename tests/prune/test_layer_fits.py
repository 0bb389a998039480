"""What reconstruction did to each layer, measured from outside, against ``lstsq`` and the past."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.reconstruct import reconstruct
from prune.surgery import cut
from prune.tracing import trace
from reid_edge.core.cost import conv_and_linear_layers
from reid_edge.models import build_model
from tests.networks import SHORT_OSNET_X0_25

pytestmark = pytest.mark.medium

Calls = list[tuple[Tensor, Tensor]]


@torch.no_grad()
def record(model: nn.Module, images: Tensor) -> dict[str, Calls]:
    """Return the input and the output of every call of every layer."""
    calls: dict[str, Calls] = {}
    handles = [
        layer.register_forward_hook(
            lambda _, given, output, name=name: calls.setdefault(name, []).append(
                (given[0], output)
            )
        )
        for name, layer in conv_and_linear_layers(model).items()
    ]
    model.eval()(images)
    for handle in handles:
        handle.remove()
    return calls


ROUNDING = 1e-9  # of the energy, in float32


def shifts_since(cut_model: nn.Module, compact: nn.Module) -> dict[str, Tensor]:
    """Return, by layer, what the BatchNorm behind it has been adding since the surgery."""
    graph = trace(compact)
    modules = dict(graph.named_modules())
    shifts = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and len(node.users) == 1:
            behind = str(next(iter(node.users)).target)
            if isinstance(modules.get(behind), nn.BatchNorm2d | nn.BatchNorm1d):
                before, after = (
                    model.get_buffer(f"{behind}.running_mean") for model in (cut_model, compact)
                )
                shifts[str(node.target)] = before - after
    return shifts


@torch.no_grad()
def layer_errors(
    cut_model: nn.Module,
    compact: nn.Module,
    full: nn.Module,
    kept: dict[str, Tensor],
    images: Tensor,
) -> dict[str, tuple[float, float]]:
    """Return each layer's squared error with the weights of the surgery, and with the solved ones.

    As shares of the full-width output's energy, both from the inputs that the layer gets in the
    reconstructed network.
    """
    wanted, found = record(full, images), record(compact, images)
    shifts = shifts_since(cut_model, compact)
    errors = {}
    for name, calls in found.items():
        left_by_surgery = cut_model.get_submodule(name)
        before = after = energy = 0.0
        for (given, output), (_, target) in zip(calls, wanted[name], strict=True):
            target = target[:, kept[name]].double()
            before += float((left_by_surgery(given).double() - target).pow(2).sum())
            if name in shifts:
                output = output + shifts[name].view(1, -1, *[1] * (output.dim() - 2))
            after += float((output.double() - target).pow(2).sum())
            energy += float(target.pow(2).sum())
        errors[name] = before / energy, after / energy
    return errors


def half_cut(
    full: nn.Module, widths: dict[str, int], images: Tensor
) -> tuple[nn.Module, dict[str, Tensor]]:
    groups = find_groups(full, images[:2])
    result = cut(full, widths, example=images[:2], check_input=images[:2], groups=groups)
    return result.model, result.kept


def half_of_osnet() -> tuple[nn.Module, dict[str, int]]:
    model = build_model(SHORT_OSNET_X0_25, embedding_dim=32).eval()
    for name, bias in model.named_parameters():
        if name.endswith("gate.fc1.bias"):
            nn.init.constant_(bias, 0.5)  # random weights may silence its one hidden channel
    widths = layer_widths(model)
    whole = ("fc.0", "classifier")
    return model, {n: w if n in whole else max(1, w // 2) for n, w in widths.items()}


def half_of_resnet() -> tuple[nn.Module, dict[str, int]]:
    model = build_model("resnet18_bnneck", embedding_dim=32).eval()
    return model, layer_widths(build_model("resnet18_bnneck_x0_5", embedding_dim=32))


def half_of_mobilenet() -> tuple[nn.Module, dict[str, int]]:
    model = mobilenet_v2(
        num_classes=10, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]]
    ).eval()
    widths = layer_widths(model)
    return model, {n: w if n == "classifier.1" else w // 2 for n, w in widths.items()}


@pytest.mark.parametrize("make", [half_of_osnet, half_of_resnet, half_of_mobilenet])
def test_no_layer_is_worse_than_the_surgery_left_it(
    make: Callable[[], tuple[nn.Module, dict[str, int]]],
    randomise_normalisation: Callable[[nn.Module], None],
) -> None:
    torch.manual_seed(0)
    full, widths = make()
    randomise_normalisation(full)
    images = torch.randn(6, 3, 32, 32)
    cut_model, kept = half_cut(full, widths, images)
    compact = copy.deepcopy(cut_model)
    fits = reconstruct(compact, full, kept, images)
    errors = layer_errors(cut_model, compact, full, kept, images)
    assert errors.keys() == fits.keys()
    for name, (before, after) in errors.items():
        # A layer that nothing was cut in front of has no error but rounding.
        assert after <= before * (1 + 1e-4) + ROUNDING, name
    assert sum(after < 0.9 * before for before, after in errors.values()) > len(errors) / 2


def direct_error(layer: nn.Module, calls: Calls, wanted: list[Tensor], shiftable: bool) -> float:
    """Return the least squared error that any weights of the layer reach, with ``lstsq``."""
    total = 0.0
    depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
    for channel in range(layer.weight.shape[0]):
        rows, targets = [], []
        for (given, _), target in zip(calls, wanted, strict=True):
            if isinstance(layer, nn.Conv2d):
                seen = given[:, channel : channel + 1] if depthwise else given
                patches = nn.functional.unfold(
                    seen, layer.kernel_size, layer.dilation, layer.padding, layer.stride
                )
                rows.append(patches.transpose(1, 2).flatten(0, 1))
            else:
                rows.append(given)
            targets.append(target[:, channel].flatten())
        matrix, column = torch.cat(rows).double(), torch.cat(targets).double().unsqueeze(1)
        if shiftable:
            matrix = torch.cat([matrix, torch.ones(len(matrix), 1)], 1)
        fit = torch.linalg.lstsq(matrix, column, driver="gelsd").solution
        total += float((matrix @ fit - column).pow(2).sum())
    return total


@torch.no_grad()
def test_every_layer_of_a_network_is_as_good_as_lstsq_makes_it(small_net: nn.Module) -> None:
    # Spatial, pointwise, depthwise, called twice, linear; with a bias, a BatchNorm, or neither.
    # So few images that all output positions are looked at.
    images = torch.randn(32, 3, 8, 8)
    widths = {"stem": 5, "pointwise": 5, "depthwise": 5, "gate": 5}
    cut_model, kept = half_cut(small_net, widths, images)
    compact = copy.deepcopy(cut_model)
    reconstruct(compact, small_net, kept, images, ridge=0.0)
    errors = layer_errors(cut_model, compact, small_net, kept, images)
    wanted, found = record(small_net, images), record(compact, images)
    assert len(found["gate"]) == 2
    for name, calls in found.items():
        targets = [target[:, kept[name]] for _, target in wanted[name]]
        direct = direct_error(
            compact.get_submodule(name), calls, targets, shiftable=name != "pointwise"
        )
        energy = sum(float(target.pow(2).sum()) for target in targets)
        assert errors[name][1] == pytest.approx(direct / energy, rel=1e-3, abs=ROUNDING), name
