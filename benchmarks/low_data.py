"""Images a second in training on few labels: ours against a DataLoader with torchvision transforms.

The small ResNet on digits; on a GPU ResNet18 on images of the size of CIFAR10, in bfloat16. Both
loops train the same network with FR, with the same batch, augmentation, optimiser and precision;
the DataLoader with and without workers.

Usage: python benchmarks/low_data.py [threads]
"""

import shutil
import statistics

import bench
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from replica import costs
from replica.lowdata import losses
from replica.lowdata.methods import cross_entropies
from replica.models.backbones import build_network
from replica.plan import make_plan
from replica.training import loop
from replica.training.checkpoint import Checkpoint
from replica.training.devices import can_compile

TURNS = 3
# Scale whose network it is, shape of an image, images, epochs.
SIZES = {"cpu": ("laptop", (1, 8, 8), 400, 5), "cuda": ("paper", (3, 32, 32), 5000, 3)}


class Images(Dataset):
    """Images as a plain script has them: PIL, transformed one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, transform: object) -> None:
        arrays = images.permute(0, 2, 3, 1).numpy()
        mode = arrays.squeeze(-1) if arrays.shape[-1] == 1 else arrays
        self.images = [Image.fromarray(np.ascontiguousarray(array)) for array in mode]
        self.labels, self.transform = labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def plain_loop(model, data, spec, epochs, device, workers):
    """An everyday training loop; returns images a second."""
    mixed = spec.precision == "mixed" and device.type == "cuda"
    batches = DataLoader(
        data,
        batch_size=spec.batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    model = model.to(device).train()
    optimiser = torch.optim.SGD(
        model.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
    )
    seen, began = 0, 0.0
    for epoch in range(epochs + 1):
        if epoch == 1:
            began = bench.clock(device)
        for x, y in batches:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                loss = sum(losses.joint(model(x), y).values())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            seen += len(y) if epoch else 0
    return seen / (bench.clock(device) - began)


def our_loop(model, images, labels, spec, epochs, device):
    """The loop of the project; returns images a second without the first epoch."""
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    model = model.to(device, memory_format=torch.channels_last)
    if device.type == "cuda" and shutil.which("cc") and can_compile():
        # As in replica.lowdata.training; the first epoch, which compiles, is not counted.
        model.compile()
    method, times = cross_entropies(model, spec), []
    recipe = loop.Recipe(
        lr=spec.lr,
        epochs=epochs + 1,
        batch=spec.batch,
        momentum=spec.momentum,
        decay={"": spec.weight_decay},
        schedule="multistep",
        milestones=(0.8,),
        padding=spec.padding,
        flips=spec.flips,
        precision=spec.precision,
    )
    loop.train(
        method.module,
        images,
        labels.to(device),
        method.objective,
        recipe,
        seed=0,
        snapshot_epochs=[],
        checkpoint=Checkpoint(None),
        perturb=method.perturb,
        before_epoch=lambda epoch: times.append(bench.clock(device)),
    )
    return epochs * len(labels) / (bench.clock(device) - times[1])


def flops_per_image(spec, shape, device):
    """Of a training step: forward and backward."""
    model = build_network(spec, shape, 10, 0).to(device)
    x = torch.rand(spec.batch, *shape, device=device)
    y = torch.zeros(spec.batch, dtype=torch.int64, device=device)
    return bench.flops_of(lambda: sum(losses.joint(model(x), y).values()).backward()) / spec.batch


def comparison(spec, shape, n, epochs, device, turns=TURNS):
    """Images a second of each loop, and what ours achieves of the rate of products."""
    images, labels = samples(shape, n)
    flips = [transforms.RandomHorizontalFlip()] if spec.flips else []
    crop = transforms.RandomCrop(shape[1], padding=spec.padding)
    data = Images(images, labels, transforms.Compose([crop, *flips, transforms.ToTensor()]))
    speeds: dict[str, list[float]] = {"ours": [], "DataLoader": [], "DataLoader, 2 workers": []}

    def fresh():
        return build_network(spec, shape, 10, 0)

    for _ in range(turns):
        speeds["ours"].append(our_loop(fresh(), images, labels, spec, epochs, device))
        for name, workers in [("DataLoader", 0), ("DataLoader, 2 workers", 2)]:
            speeds[name].append(plain_loop(fresh(), data, spec, epochs, device, workers))
    network = "ResNet18" if spec.network.widths[-1] == 512 else "small ResNet"
    case, medians = f"training {network}", {k: statistics.median(v) for k, v in speeds.items()}
    ours = medians.pop("ours")
    faster = max(medians, key=medians.get)
    ratios = [a / b for a, b in zip(speeds["ours"], speeds[faster], strict=True)]
    precision = bench.precision_of(fresh(), spec.precision == "mixed", device)
    flops = flops_per_image(spec, shape, device)
    return [
        *bench.utilisation(case, ours, flops, precision, device),
        *(bench.row(f"{case}, {k}", "images per second", v, "1/s") for k, v in medians.items()),
        bench.speed(case, f"a {faster}", ratios),
    ]


def samples(shape, n):
    """Random images and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(17 if shape[0] == 1 else 256, (n, *shape), generator=generator)
    return images.to(torch.uint8), torch.randint(10, (n,), generator=generator)


def with_refiner(scale):
    """The run of ResNet18, or of the small ResNet, with FR at a scale."""
    plan = make_plan(bench.ROOT, {"scale": scale, "studies": ["fc_low_data"]})
    return next(part.spec for part in plan.parts.values() if part.run == "fr")


def rows(device, threads):
    """The comparison, and times of units of work."""
    scale, shape, n, epochs = SIZES[device.type]
    spec = with_refiner(scale)
    return [
        *comparison(spec, shape, n, epochs, device),
        unit_of_work(build_network(spec, shape, 10, 0), *samples(shape, n), spec, epochs, device),
        *([] if device.type == "cuda" else [convolution()]),
    ]


def convolution():
    """The time of an operation of convolutions on one core: ResNet18 on images of 32x32 pixels."""
    plan = make_plan(bench.ROOT, {"scale": "desktop", "studies": ["fc_low_data"]})
    part = next(part for part in plan.parts.values() if part.run == "fr")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (part.spec.batch, 3, 32, 32), generator=generator).to(torch.uint8)
    labels = torch.randint(10, (part.spec.batch,), generator=generator)
    model, cpu = build_network(part.spec, (3, 32, 32), 10, 0), torch.device("cpu")
    with bench.on_threads(1):
        rate = our_loop(model, images, labels, part.spec, 2, cpu)
    whole = plan.cost(part).work
    amount = rate * whole.amount / (part.spec.n[0] * part.spec.epochs)
    return bench.unit_of_work(costs.Work(whole.kind, amount), 1.0)


def unit_of_work(model, images, labels, spec, epochs, device):
    """The time of an image on a GPU, or of a step of 20 images on one core."""
    with bench.on_threads(1):
        rate = our_loop(model, images, labels, spec, epochs, device)
    if device.type == "cuda":
        return bench.unit_of_work(costs.Work("image on a GPU", rate), 1.0)
    return bench.unit_of_work(costs.Work("low-data step", rate / spec.batch), 1.0)


if __name__ == "__main__":
    bench.alone(__file__)
