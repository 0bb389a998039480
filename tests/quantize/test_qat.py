"""A model that feels the rounding of int8 starts where static int8 is, and learns to do better."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn

from quantize.agreement import Reference
from quantize.calibrate import Calibrated, Scheme, calibrate
from quantize.call_sites import call_sites
from quantize.count import quantization_report
from quantize.prepared import observed_nodes, quantization_of, weighted_layers
from quantize.qat import freeze_batchnorm, freeze_observers, prepare_qat, trained_calibration
from quantize.static import convert_calibrated, with_corrected_biases
from reid_edge.core.int8_engine import quantized_engine, supported_engines

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif("qnnpack" not in supported_engines(), reason="needs QNNPACK"),
]


@pytest.fixture(scope="module")
def calibrated(osnet: nn.Module, images: Tensor) -> Calibrated:
    return calibrate(osnet, images.split(4), Scheme(observer="minmax"))


@pytest.fixture(scope="module")
def prepared(osnet: nn.Module, calibrated: Calibrated) -> fx.GraphModule:
    return prepare_qat(osnet, calibrated)


@pytest.fixture
def qat(prepared: fx.GraphModule) -> fx.GraphModule:
    return copy.deepcopy(prepared)


class Small(nn.Module):
    """A gate that is called twice, and a linear layer with BatchNorm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.gate = nn.Conv2d(8, 8, 1)
        self.fc = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = x * torch.sigmoid(self.gate(x)) + torch.relu(self.gate(2 * x))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture
def small(images: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = Small().train()
    with torch.no_grad():
        for _ in range(20):
            model(images)
    return model.eval()


def test_untrained_it_is_the_calibrated_model(
    qat: fx.GraphModule, calibrated: Calibrated, osnet: nn.Module, images: Tensor
) -> None:
    again = trained_calibration(qat, calibrated)
    before, after = observed_nodes(calibrated.prepared), observed_nodes(again.prepared)
    assert before == after
    for name in before.values():
        ranges = (quantization_of(c.prepared.get_submodule(name)) for c in (calibrated, again))
        assert all(torch.equal(a, b) for a, b in zip(*ranges, strict=True))
    static, trained = (convert_calibrated(c, bias_correction=False) for c in (calibrated, again))
    reference = Reference(osnet, [images])
    errors = [reference.agreement(m, "qnnpack").mean_cosine_error for m in (static, trained)]
    # Folding in single precision makes weights differ in the last bit, and some round otherwise.
    assert errors[1] < 1.2 * errors[0]
    assert quantization_report(osnet, trained) == quantization_report(osnet, static)


def check_rounding(qat: fx.GraphModule, calibrated: Calibrated, images: Tensor) -> None:
    """Check that rounding in training is that of the engine."""
    freeze_observers(qat)
    freeze_batchnorm(qat)
    int8 = convert_calibrated(trained_calibration(qat, calibrated), bias_correction=False)
    with torch.no_grad(), quantized_engine("qnnpack"):
        simulated, real = qat(images), int8(images)
    assert float((simulated - real).norm() / real.norm()) < 0.03


def test_rounding_in_training_is_that_of_the_engine(
    qat: fx.GraphModule, calibrated: Calibrated, images: Tensor
) -> None:
    check_rounding(qat, calibrated, images)


def test_each_call_has_its_own_ranges_and_shares_its_weights(
    qat: fx.GraphModule, osnet: nn.Module
) -> None:
    calls = [site for site, module in call_sites(osnet).items() if module == "conv4.0.gate.fc1"]
    assert len(calls) == 4
    layers = [qat.get_submodule(site) for site in calls]
    assert len({id(layer.weight) for layer in layers}) == 1
    ranges = observed_nodes(qat)
    nodes = {str(node.target): node.name for node in qat.graph.nodes}
    scales = {float(qat.get_submodule(ranges[nodes[site]]).scale) for site in calls}  # type: ignore[arg-type]
    assert len(scales) == 4
    folded = sum(parameter.numel() for parameter in osnet.fc[1].parameters())  # type: ignore[index, union-attr]
    classifier = sum(parameter.numel() for parameter in osnet.classifier.parameters())  # type: ignore[union-attr]
    expected = sum(parameter.numel() for parameter in osnet.parameters()) - folded - classifier
    assert sum(parameter.numel() for parameter in qat.parameters()) == expected


def test_training_brings_int8_nearer_to_the_float_model(small: nn.Module, images: Tensor) -> None:
    calibrated = calibrate(small, [images], Scheme(observer="minmax", per_channel=False))
    qat = prepare_qat(small, calibrated)
    freeze_observers(qat)
    freeze_batchnorm(qat)
    reference = Reference(small, [images])

    def error() -> float:
        int8 = convert_calibrated(trained_calibration(qat, calibrated), bias_correction=False)
        return reference.agreement(int8, "qnnpack").mean_relative_error

    before, errors = error(), []
    optimizer = torch.optim.Adam(qat.parameters(), 1e-4)
    for _ in range(60):
        loss = (qat(images) - reference.embeddings).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < errors[0]
    assert error() < 0.9 * before


def _statistics(qat: fx.GraphModule) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    state = qat.state_dict()
    ranges = {n: state[f"{n}.scale"].clone() for n in observed_nodes(qat).values()}
    norms = {n: v.clone() for n, v in state.items() if n.endswith("running_mean")}
    return ranges, norms


def _differ(before: dict[str, Tensor], after: dict[str, Tensor]) -> int:
    return sum(not torch.equal(before[name], after[name]) for name in before)


def test_statistics_are_learned_until_they_are_frozen(small: nn.Module, images: Tensor) -> None:
    qat = prepare_qat(small, calibrate(small, [images]))
    start = _statistics(qat)
    qat(3 * images)
    learned = _statistics(qat)
    assert _differ(start[0], learned[0]) > 0
    assert _differ(start[1], learned[1]) == len(start[1]) == 1
    freeze_observers(qat)
    qat(images)
    second = _statistics(qat)
    assert _differ(learned[0], second[0]) == 0
    assert _differ(learned[1], second[1]) == 1
    qat.train()
    freeze_batchnorm(qat)
    qat(images)
    assert _differ(second[1], _statistics(qat)[1]) == 0


def test_a_channel_that_is_switched_off_gives_numbers(small: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        small.norm.weight[2] = 0.0  # type: ignore[index, union-attr]
    calibrated = calibrate(small, [images])
    qat = prepare_qat(small, calibrated)
    assert torch.isfinite(qat(images)).all()
    qat(images).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in qat.parameters() if p.grad is not None)


def test_layers_left_in_float_stay_there(small: nn.Module, images: Tensor) -> None:
    calibrated = calibrate(small, [images], Scheme(float_layers=("gate",)))
    qat = prepare_qat(small, calibrated)
    assert type(qat.gate) is nn.Conv2d
    int8 = convert_calibrated(trained_calibration(qat, calibrated))
    report = quantization_report(small, int8, float_layers=("gate",))
    assert report.int8_convolutions == 1
    assert [layer.name for layer in report.left_in_float if layer.reason == "asked for"] == ["gate"]


class Normalised(nn.Module):
    """Layers that QAT trains and that do not become int8, or not all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.gate = nn.Conv2d(8, 8, 1)
        self.last = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.exponent = nn.Parameter(torch.tensor(1.5))
        self.neck = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.instance(self.stem(x))
        x = x * torch.sigmoid(self.gate(x)) + torch.relu(self.gate(2 * x))
        x = self.last(x).relu().pow(self.exponent)
        return self.neck(x.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("float_layers", [(), ("stem", "gate"), ("last",)])
def test_all_that_was_trained_arrives(images: Tensor, float_layers: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = Normalised().train()
    with torch.no_grad():
        for _ in range(20):
            model(images)
    calibrated = calibrate(model.eval(), [images], Scheme(float_layers=float_layers))
    qat = prepare_qat(model, calibrated)
    assert sum(p.numel() for p in qat.parameters()) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        for trained in (model, qat):
            for parameter in trained.parameters():
                parameter.mul_(1.25)
            for name, buffer in trained.named_buffers():
                if name.endswith("running_mean"):
                    buffer.sub_(0.5)
    expected = calibrate(model, [images], Scheme(float_layers=float_layers)).prepared.state_dict()
    found = trained_calibration(qat, calibrated).prepared.state_dict()
    weights = [name for name in expected if name.endswith(("weight", "bias", "mean", "exponent"))]
    assert len(weights) == 14
    for name in weights:
        torch.testing.assert_close(found[name], expected[name])


def test_float_layers_are_judged_as_they_were_trained(osnet: nn.Module, images: Tensor) -> None:
    calibrated = calibrate(osnet, [images], Scheme(float_layers=("conv1", "conv3.0.gate")))
    qat = prepare_qat(osnet, calibrated)
    with torch.no_grad():
        for parameter in qat.parameters():
            parameter.mul_(1.05)
    check_rounding(qat, calibrated, images)


@pytest.mark.skipif("x86" not in supported_engines(), reason="needs the x86 engine")
def test_x86_trains_with_seven_bits(small: nn.Module, images: Tensor) -> None:
    calibrated = calibrate(small, [images], Scheme(engine="x86"))
    qat = prepare_qat(small, calibrated)
    int8 = convert_calibrated(trained_calibration(qat, calibrated))
    agreement = Reference(small, [images]).agreement(int8, "x86")
    assert agreement.mean_cosine_error < 0.01


def test_it_starts_from_the_biases_of_static_int8(
    osnet: nn.Module, calibrated: Calibrated, images: Tensor
) -> None:
    start = with_corrected_biases(calibrated)
    qat = prepare_qat(osnet, start)
    again = trained_calibration(qat, start)
    calls = set(call_sites(osnet))
    for before, after in zip(
        weighted_layers(start.prepared), weighted_layers(again.prepared), strict=True
    ):
        assert before.layer.bias is not None
        assert after.layer.bias is not None
        if str(before.node.target) not in calls:
            torch.testing.assert_close(after.layer.bias, before.layer.bias)
    gates = [site for site, name in call_sites(osnet).items() if name == "conv3.0.gate.fc1"]
    biases = {w.node.target: w.layer.bias for w in weighted_layers(start.prepared)}
    learned = {w.node.target: w.layer.bias for w in weighted_layers(again.prepared)}
    mean = torch.stack([biases[site] for site in gates]).mean(0)
    for site in gates:
        torch.testing.assert_close(learned[site], mean)
    assert len({id(qat.get_submodule(site).bias) for site in gates}) == 1
    reference = Reference(osnet, [images])
    static = convert_calibrated(calibrated)
    untrained = convert_calibrated(again, bias_correction=False)
    plain = convert_calibrated(calibrated, bias_correction=False)
    errors = [
        reference.agreement(int8, "qnnpack").mean_relative_error
        for int8 in (static, untrained, plain)
    ]
    assert max(errors[:2]) < errors[2]
