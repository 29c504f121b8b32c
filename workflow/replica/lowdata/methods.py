"""The training methods: what each does to a batch, and its loss.

A further method is a row of `METHODS`, and a word in `LowDataSpec`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replica.kinds.low_data import LowDataSpec
from replica.lowdata import losses
from replica.models.backbones import pooled
from replica.models.refiner import TwoHeaded
from replica.models.stacked import Output, Stack
from replica.training.loop import Objective, augmented

_RATIO = 10
_HIDDEN = 128

Perturb = Callable[..., Tensor]


@dataclass(frozen=True)
class Method:
    """What `replica.training.loop.train` needs besides the images and the recipe.

    Attributes:
        module: holds the parameters that are trained.
        objective: parts of the loss of a batch.
        perturb: from augmented pixels to what the module sees.
        before_epoch: called with the number of the epoch, from 1.
    """

    module: nn.Module
    objective: Objective
    perturb: Perturb
    before_epoch: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Given:
    """What a method may use.

    Attributes:
        model: what is trained: a network, or a stack of several.
        images: that are labelled.
        epochs: passes over them.
        peer: makes a second network, with a start of its own.
        unlabelled: gives the other images of the pool.
        run: trains by a method before the training proper, under a name for its random stream.
    """

    spec: LowDataSpec
    model: nn.Module
    images: Tensor
    epochs: int
    peer: Callable[[], TwoHeaded]
    unlabelled: Callable[[], Tensor]
    run: Callable[[Method, str], object]


def unit(images: Tensor, pixel_max: float) -> Tensor:
    """Pixels as float32 in [0, 1]."""
    return images.float() / pixel_max


def of_outputs(parts: Callable[[Output, Tensor], dict[str, Tensor]]) -> Objective:
    """An objective from the parts of the loss of a network's output; for a stack, of each of them.

    The parts of network s of a stack are called `<part>/<s>`.
    """

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        if not isinstance(module, Stack):
            return parts(module(x), y)
        each = zip(module(x), y.chunk(module.S), strict=True)
        return {
            f"{name}/{s}": value
            for s, (output, labels) in enumerate(each)
            for name, value in parts(output, labels).items()
        }

    return objective


def cross_entropies(model: TwoHeaded | Stack, spec: LowDataSpec) -> Method:
    """Cross-entropy on each head: the baseline, and the joint distillation of the paper."""
    return Method(
        model, of_outputs(losses.joint), lambda x, rows, *generators: unit(x, spec.pixel_max)
    )


def taught(model: TwoHeaded, teacher: TwoHeaded, spec: LowDataSpec) -> Method:
    """KD to a teacher trained beforehand."""
    teacher.eval().requires_grad_(False)

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return losses.distillation(module(x)[0], teacher(x)[0], y)

    return Method(model, objective, cross_entropies(model, spec).perturb)


def together(model: TwoHeaded, peer: TwoHeaded, spec: LowDataSpec, images: Tensor) -> Method:
    """DML on the same images, or KDCL with an augmented view of its own for each network."""
    if spec.method == "mutual":

        def objective(module: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return losses.mutual(model(x)[0], peer(x)[0], y)

        return Method(nn.ModuleList([model, peer]), objective, cross_entropies(model, spec).perturb)

    def two_views(x: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        second = augmented(images[rows], spec.padding, spec.flips, generator)
        return unit(torch.cat([x, second]), spec.pixel_max)

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        first, second = x.chunk(2)
        return losses.collaborative(model(first)[0], peer(second)[0], y)

    return Method(nn.ModuleList([model, peer]), objective, two_views)


def half_supervised(model: TwoHeaded, spec: LowDataSpec, unlabelled: Tensor) -> Method:
    """FixMatch: ten unlabelled images for a labelled one, weakly and strongly augmented."""
    from torchvision.transforms import v2

    strong = v2.RandAugment(num_ops=2, magnitude=10)

    def perturb(x: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.randint(len(unlabelled), (_RATIO * len(x),), generator=generator)
        chosen = unlabelled[drawn.to(unlabelled.device)]
        weak = augmented(chosen, spec.padding, spec.flips, generator)
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            # RandAugment draws from the global generator.
            torch.manual_seed(seed)
            strongly = torch.stack([strong(image) for image in weak])
        return unit(torch.cat([x, weak, strongly]), spec.pixel_max)

    def objective(module: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        z = module(x)[0]
        own, weak, strongly = z.split([len(y), _RATIO * len(y), _RATIO * len(y)])
        return losses.joint([own], y) | {"unlabelled": losses.fixmatch(weak, strongly)}

    return Method(model, objective, perturb)


# --------------------------------------------------------------------------------------
# LLAL


class LossModule(nn.Module):
    """A network with LLAL's module, which predicts an image's loss from the maps of all stages.

    Global average pooling, Linear(d -> 128) and ReLU for each stage, concatenated, Linear(-> 1)
    (Yoo and Kweon 2019; official code).

    Attributes:
        joined: whether the module's gradient still reaches the backbone.
    """

    def __init__(self, network: TwoHeaded, widths: list[int]) -> None:
        super().__init__()
        self.network = network
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(d, _HIDDEN), nn.ReLU()) for d in widths)
        self.last = nn.Linear(_HIDDEN * len(widths), 1)
        self.joined = True

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Logits of the heads, each (b, K), and predicted losses (b, 1)."""
        maps = self.network.backbone.maps(self.network.normalise(x))
        pools = [pooled(m) for m in maps]
        heads = self.network.heads(pools[-1])
        pools = pools if self.joined else [p.detach() for p in pools]
        hidden = [part(p) for part, p in zip(self.parts, pools, strict=True)]
        # In a stack the parts of each network come together.
        hidden = [h.unflatten(1, (-1, _HIDDEN)) for h in hidden]
        return heads, self.last(torch.cat(hidden, 2).flatten(1))


def with_loss_module(network: TwoHeaded, shape: tuple[int, int, int], seed: int) -> LossModule:
    """Put a loss module on a network for images of a shape (C, H, W)."""
    network.eval()
    with torch.no_grad():
        maps = network.backbone.maps(torch.zeros(1, *shape))
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LossModule(network, [m.shape[1] for m in maps])


def predicting_losses(model: LossModule | Stack, spec: LowDataSpec, epochs: int) -> Method:
    """Cross-entropy and the ranking of losses, which leaves the backbone after `active.cut`."""
    predicting = model.network if isinstance(model, Stack) else model

    def parts(output: tuple[list[Tensor], Tensor], y: Tensor) -> dict[str, Tensor]:
        heads, predicted = output
        each = nn.functional.cross_entropy(heads[0].float(), y, reduction="none")
        ranking = losses.loss_ranking(predicted.squeeze(1).float(), each)
        return losses.joint(heads, y) | {"ranking": ranking}

    def join(epoch: int) -> None:
        predicting.joined = epoch <= spec.active.cut * epochs

    return Method(model, of_outputs(parts), cross_entropies(model, spec).perturb, join)


# --------------------------------------------------------------------------------------
# The table


def _joint(given: Given) -> Method:
    """Cross-entropy on each head; with LLAL's module its ranking too."""
    if given.spec.active is not None and given.spec.active.query == "llal":
        return predicting_losses(given.model, given.spec, given.epochs)
    return cross_entropies(given.model, given.spec)


def _distillation(given: Given) -> Method:
    """The teacher is trained first."""
    teacher = given.peer()
    given.run(cross_entropies(teacher, given.spec), "teacher")
    return taught(given.model, teacher, given.spec)


def _together(given: Given) -> Method:
    return together(given.model, given.peer(), given.spec, given.images)


def _fixmatch(given: Given) -> Method:
    return half_supervised(given.model, given.spec, given.unlabelled())


METHODS = {
    "joint": _joint,
    "distillation": _distillation,
    "mutual": _together,
    "collaborative": _together,
    "fixmatch": _fixmatch,
}
