"""The Feature Refiner, the gate, and the sizes of the networks of the low-data study."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from replica.kinds.low_data import (
    DenseBackbone,
    DepthwiseBackbone,
    MixerBackbone,
    StagedBackbone,
    TorchvisionBackbone,
    VitBackbone,
)
from replica.lowdata.exact import head_gradients, parameters
from replica.models.backbones import build_backbone
from replica.models.refiner import (
    FeatureRefiner,
    TwoHeaded,
    gradient_gate,
    parameter_count,
)

SMALL = StagedBackbone(kind="staged_resnet", widths=[8, 16], blocks=[1, 1])
FULL = [64, 128, 256, 512]


def small_network(gate: float = 0.0, refiner: bool = True) -> TwoHeaded:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone(SMALL, (1, 8, 8))
        head = FeatureRefiner(16, 8) if refiner else None
        return TwoHeaded(backbone, 5, head, gate).double()


def batch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randint(5, (n,), generator=generator)


@pytest.mark.parametrize(
    ("d_bb", "d_fr", "inner", "count"),
    [
        (512, 64, 1, 41_408), (512, 64, 2, 45_568), (512, 64, 3, 49_728), (512, 64, 4, 53_888),
        (512, 64, 5, 58_048), (512, 256, 1, 263_936), (1024, 64, 1, 74_176),
        (1536, 50, 1, 82_150), (64, 16, 1, 1_648),
    ],
)  # fmt: skip
def test_the_refiner_has_the_derived_number_of_parameters(d_bb, d_fr, inner, count):
    assert parameter_count(FeatureRefiner(d_bb, d_fr, inner)) == count
    # d_bb d_fr + d_fr, two norms, and the (L + 1) square layers (derived).
    assert d_bb * d_fr + 5 * d_fr + (inner + 1) * (d_fr**2 + d_fr) == count


@pytest.mark.parametrize(
    ("blocks", "bottleneck", "K", "count"),
    [
        ([2, 2, 2, 2], False, 10, 11_173_962), ([2, 2, 2, 2], False, 100, 11_220_132),
        ([3, 4, 6, 3], False, 10, 21_282_122), ([3, 4, 6, 3], False, 100, 21_328_292),
        # ResNet50 for small images, as in public implementations.
        ([3, 4, 6, 3], True, 10, 23_520_842),
    ],
)  # fmt: skip
def test_networks_for_cifar_have_the_published_sizes(blocks, bottleneck, K, count):
    spec = StagedBackbone(kind="staged_resnet", widths=FULL, blocks=blocks, bottleneck=bottleneck)
    with torch.device("meta"):
        network = TwoHeaded(build_backbone(spec, (3, 32, 32)), K)
    assert parameter_count(network) == count


def test_only_densenet_has_a_head_without_a_bias():
    with torch.device("meta"):
        for name in ["resnet18", "densenet121", "efficientnet_b3"]:
            spec = TorchvisionBackbone(kind="torchvision", name=name)
            network = TwoHeaded(build_backbone(spec, (3, 32, 32)), 10)
            assert (network.original.bias is None) == (name == "densenet121")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "efficientnet_b3"])
def test_networks_of_torchvision_lose_only_their_classifier(name):
    from torchvision import models

    with torch.device("meta"):
        whole = getattr(models, name)(weights=None)
        last = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
        backbone = build_backbone(TorchvisionBackbone(kind="torchvision", name=name), (3, 32, 32))
    assert parameter_count(backbone) == parameter_count(whole) - parameter_count(last)
    assert backbone.width == last.in_features
    assert backbone.width == {"resnet18": 512, "densenet121": 1024, "efficientnet_b3": 1536}[name]


def test_efficientnet_has_the_batch_norm_and_the_padding_of_the_official_code():
    from torchvision import models

    spec = TorchvisionBackbone(kind="torchvision", name="efficientnet_b3")
    backbone = build_backbone(spec, (3, 32, 32)).eval()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)} and len(norms) == 78
    # "Same" padding of TensorFlow: k - 2 pixels around an even side, the odd one at the end.
    pads = [m for m in backbone.modules() if isinstance(m, nn.ZeroPad2d)]
    assert [m.padding for m in pads] == [(0, 1) * 2] * 2 + [(1, 2) * 2, (0, 1) * 2, (1, 2) * 2]
    convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert len(convs) == 5 and all(conv.padding == (0, 0) for conv in convs)
    # Every other padding, and the size of every map, is as in torchvision.
    theirs = models.efficientnet_b3(weights=None).features.eval()
    x = y = torch.rand(2, 3, 32, 32)
    for ours, other in zip(backbone.network.features, theirs, strict=True):
        x, y = ours(x), other(y)
        assert x.shape == y.shape


@pytest.mark.parametrize("name", ["densenet121", "efficientnet_b3"])
def test_networks_from_scratch_start_from_the_defaults_of_torch(name):
    """kaiming_uniform(a = sqrt 5): uniform within 1/sqrt(fan_in), and not torchvision's normals."""
    torch.manual_seed(0)
    backbone = build_backbone(TorchvisionBackbone(kind="torchvision", name=name), (3, 32, 32))
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            bound = weight[0].numel() ** -0.5
            assert weight.abs().max() <= bound
            if weight.numel() > 1000:
                assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)
            assert module.bias is None or (module.bias != 0).any()
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


def test_the_vision_transformer_has_the_size_of_torchvisions():
    from torchvision.models import VisionTransformer

    spec = VitBackbone(kind="vit", patch=4, width=768, depth=12, heads=12, hidden=3072)
    with torch.device("meta"):
        theirs = VisionTransformer(32, 4, 12, 12, 768, 3072, num_classes=10)
        ours = TwoHeaded(build_backbone(spec, (3, 32, 32)), 10)
    assert parameter_count(ours) == parameter_count(theirs)


@pytest.mark.parametrize(
    "spec",
    [
        SMALL,
        SMALL.model_copy(update={"bottleneck": True}),
        DenseBackbone(kind="dense", growth=4, blocks=[2, 2]),
        DepthwiseBackbone(kind="depthwise", widths=[8, 12]),
        MixerBackbone(kind="mixer", patch=2, width=16, depth=2, tokens=8, hidden=32),
        VitBackbone(kind="vit", patch=2, width=16, depth=2, heads=2, hidden=32),
    ],
)
def test_every_backbone_gives_features_of_its_width_and_learns_in_all_its_parameters(spec):
    torch.manual_seed(0)
    backbone = build_backbone(spec, (1, 8, 16))
    features = backbone(torch.rand(4, 1, 8, 16))
    assert features.shape == (4, backbone.width)
    # Not the sum of squares, which is constant behind a normalisation.
    (features * torch.randn_like(features)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())


def test_patches_must_tile_the_image():
    spec = VitBackbone(kind="vit", patch=3, width=16, depth=1, heads=2, hidden=32)
    with pytest.raises(ValueError, match="Patches of 3 do not tile 8x16"):
        build_backbone(spec, (1, 8, 16))
    with pytest.raises(ValueError, match="needs images with 3 channels, got 1"):
        build_backbone(TorchvisionBackbone(kind="torchvision", name="resnet18"), (1, 8, 8))


@given(st.floats(0, 1))
def test_the_gate_is_the_identity_and_scales_the_gradient(m):
    h = torch.linspace(-1, 1, 5, dtype=torch.float64, requires_grad=True)
    out = gradient_gate(h, m)
    assert torch.equal(out, h)
    (gradient,) = torch.autograd.grad((out**3).sum(), h)
    torch.testing.assert_close(gradient, m * 3 * h.detach() ** 2)


def test_a_closed_gate_leaves_the_backbone_to_the_refiner():
    network, (x, y) = small_network(), batch()
    backbone = list(network.backbone.parameters())
    z_orig, z_fr = network(x)
    original = torch.autograd.grad(
        F.cross_entropy(z_orig, y), backbone, retain_graph=True, materialize_grads=True
    )
    assert all((g == 0).all() for g in original)
    extra = torch.autograd.grad(F.cross_entropy(z_fr, y), backbone, retain_graph=True)
    total = F.cross_entropy(z_fr, y) + F.cross_entropy(z_orig, y)
    for own, wanted in zip(torch.autograd.grad(total, backbone), extra, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-7, atol=0)
    # The original head itself learns.
    (head,) = torch.autograd.grad(F.cross_entropy(network(x)[0], y), [network.original.weight])
    assert head.abs().sum() > 0


def test_an_open_gate_is_no_gate_bit_for_bit():
    network, (x, y) = small_network(gate=1.0), batch()
    backbone = list(network.backbone.parameters())
    gated = torch.autograd.grad(
        F.cross_entropy(network.original(gradient_gate(network.features(x), 1.0)), y), backbone
    )
    plain = torch.autograd.grad(F.cross_entropy(network(x)[0], y), backbone)
    assert all(torch.equal(a, b) for a, b in zip(gated, plain, strict=True))


def test_without_the_extra_head_the_network_is_the_plain_one():
    network, (x, _) = small_network().eval(), batch()
    plain = small_network(refiner=False)
    exported = network.at_test_time()
    assert torch.equal(exported(x), network(x)[0])
    assert parameter_count(exported) == parameter_count(plain)
    assert len(plain(x)) == 1 and plain.gate == 1
    # What is exported is what a plain network loads.
    plain.at_test_time().load_state_dict(exported.state_dict())
    assert torch.equal(plain.eval()(x)[0], network(x)[0])


def test_a_scaled_first_layer_changes_nothing_behind_the_norm():
    torch.manual_seed(0)
    refiner = FeatureRefiner(32, 16).double()
    h = torch.randn(10, 32, dtype=torch.float64)
    before = refiner(h)
    first = refiner.layers[0]
    first.weight.data *= 3.0
    first.bias.data *= 3.0
    torch.testing.assert_close(refiner(h), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("drop", "kinds"),
    [
        ([], ["Linear", "LayerNorm", "Linear", "ReLU", "Linear", "LayerNorm"]),
        (["norm1", "linear1", "linear2", "norm2"], ["Linear"]),
        (["norm1", "norm2"], ["Linear", "Linear", "ReLU", "Linear"]),
        (["linear1"], ["Linear", "LayerNorm", "Linear", "LayerNorm"]),
    ],
)
def test_what_an_ablation_drops(drop, kinds):
    refiner = FeatureRefiner(32, 16, 1, drop)
    assert [type(layer).__name__ for layer in refiner.layers] == kinds


@pytest.mark.slow
def test_the_tables_without_training():
    table = parameters().set_index(["model", "part"])["parameters"]
    assert table["ResNet18, CIFAR10", "FR without fc"] == 41_408
    assert table["ResNet18, CIFAR10", "fc of FR"] == 650
    assert table["ResNet18, CIFAR100", "fc of FR"] == 6_500
    for model in {model for model, _ in table.index} - {"FR 512 to 64"}:
        assert table[model, "test time"] == table[model, "backbone"] + table[model, "original head"]
    gradients = head_gradients()
    closed = gradients[(gradients["gate"] == 0) & (gradients["loss"] == "original")]
    assert (closed["norm"] == 0).all() and len(closed) == 60
    assert abs(100 * 41_408 / 11_173_962 - 0.37058) < 1e-5
