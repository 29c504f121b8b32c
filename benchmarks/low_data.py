"""Images a second in training on few labels: ours against a DataLoader with torchvision transforms.

    python benchmarks/low_data.py digits 2        the small ResNet on digits, two threads
    python benchmarks/low_data.py cifar10 4       ResNet18 on random 32x32 images; on a GPU where
                                                  there is one, bfloat16 in both loops

Both train the same network with FR, with the same batch, augmentation, optimiser and precision; the
DataLoader with and without workers. Prints medians of five turns each, and the ratio to the faster.
"""

import statistics
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from replica.lowdata import losses
from replica.lowdata.methods import cross_entropies
from replica.models.backbones import build_network
from replica.plan import make_plan
from replica.training import loop
from replica.training.checkpoint import Checkpoint

TURNS = 5


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


def plain_loop(model, data, spec, epochs, device, mixed, workers):
    """An everyday training loop; returns images a second."""
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
            began = synchronised(device)
        for x, y in batches:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                loss = sum(losses.joint(model(x), y).values())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            seen += len(y) if epoch else 0
    return seen / (synchronised(device) - began)


def our_loop(model, images, labels, spec, epochs, device):
    """The loop of the project; the first epoch is not counted."""
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    model = model.to(device, memory_format=torch.channels_last)
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
        before_epoch=lambda epoch: times.append(synchronised(device)),
    )
    return epochs * len(labels) / (synchronised(device) - times[1])


def synchronised(device: torch.device) -> float:
    """The time when the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(int(sys.argv[2]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    small = sys.argv[1] == "digits"
    scale = "laptop" if small else "paper"
    spec = make_plan(".", {"scale": scale, "studies": ["fc_low_data"]})
    spec = next(p.spec for p in spec.parts.values() if p.run == "fr")
    shape, n, epochs = ((1, 8, 8), 400, 10) if small else ((3, 32, 32), 1000, 2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        17 if small else 256, (n, *shape), dtype=torch.uint8, generator=generator
    )
    labels = torch.randint(10, (n,), generator=generator)
    flips = [transforms.RandomHorizontalFlip()] if spec.flips else []
    crop = transforms.RandomCrop(shape[1], padding=spec.padding)
    data = Images(images, labels, transforms.Compose([crop, *flips, transforms.ToTensor()]))
    mixed = spec.precision == "mixed" and device.type == "cuda"
    speeds: dict[str, list[float]] = {"ours": [], "DataLoader": [], "DataLoader, 2 workers": []}
    for _ in range(TURNS):
        model = build_network(spec, shape, 10, 0)
        speeds["ours"].append(our_loop(model, images, labels, spec, epochs, device))
        for name, workers in [("DataLoader", 0), ("DataLoader, 2 workers", 2)]:
            model = build_network(spec, shape, 10, 0)
            args = (model, data, spec, epochs, device, mixed, workers)
            speeds[name].append(plain_loop(*args))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        low, high = min(speeds[name]), max(speeds[name])
        print(f"{name:22} {median:9.0f} images/s ({low:.0f} to {high:.0f})")
    ours = medians.pop("ours")
    print(f"ratio to the faster DataLoader: {ours / max(medians.values()):.2f} on {device}")


if __name__ == "__main__":
    main()
