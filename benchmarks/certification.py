"""Certification against the published reference procedure, and the times of radii and neighbours.

The reference repeats the image, adds noise, predicts, brings the predictions to the host and
counts them one by one, batch by batch (Cohen et al. 2019). Both sides use the same model, device
and number of draws; the counts agree to within binomial error.

Usage: python benchmarks/certification.py [threads]
"""

import functools

import bench
import numpy as np
import torch

from replica import costs
from replica.models.classifiers import build_classifier
from replica.settings.validation import validate_run
from replica.smoothing import certificates, variance
from replica.smoothing.monte_carlo import class_counts, for_inference

SPEC = dict(kind="noisy_classifier", dataset="d", sigma=0.25, lr=0.1, momentum=0.9, batch=100,
            weight_decay=0, epochs=1, padding=0, seeds=1)  # fmt: skip
# Network, shape of an image, and draws on a core or a GPU; the last one is that of the paper scale.
CASES = {
    "MLP 64-256-256-10": ({"kind": "mlp", "hidden": [256, 256]}, (1, 8, 8), (20_000, 1_000_000)),
    "CNN 16-32, 8x8": ({"kind": "cnn", "channels": [16, 32]}, (1, 8, 8), (10_000, 1_000_000)),
    "ResNet20, 28x28": ({"kind": "resnet", "depth": 20}, (1, 28, 28), (1_000, 100_000)),
    "ResNet110, 32x32": ({"kind": "resnet", "depth": 110}, (3, 32, 32), (400, 50_000)),
}
SMALL, LARGE = "CNN 16-32, 8x8", "ResNet110, 32x32"
SIGMA, K, REFERENCE_BATCH = 0.25, 10, 400
RADII, DIMENSIONS = 1000, (784, 3072, 150_528)
TRAIN, QUERIES = 50_000, {"cpu": 500, "cuda": 10_000}


def classifier(case, device):
    """The classifier of a case with statistics of its batch norms, and an image, on a device."""
    network, shape, draws = CASES[case]
    model = build_classifier(validate_run(SPEC | {"network": network}, case), shape, K, 0)
    model.train()
    model(torch.rand(64, *shape))
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return model.eval().to(device), image.to(device), draws[device.type == "cuda"]


def reference(model, image, n):
    counts = np.zeros(K, dtype=int)
    with torch.no_grad():
        left = n
        while left:
            size = min(left, REFERENCE_BATCH)
            left -= size
            batch = image.repeat((size, *[1] * image.dim()))
            noise = torch.randn_like(batch) * SIGMA
            for prediction in model(batch + noise).argmax(1).cpu().numpy():
                counts[prediction] += 1
    return counts


def counting(predictor, image, n):
    """The call that counts n draws."""
    return functools.partial(class_counts, predictor, image, SIGMA, K, lambda block: block, 0, n)


def throughput(case, device, draws=None):
    """Images a second in both precisions, against the reference and the rate of products."""
    model, image, n = classifier(case, device)
    n = draws or n
    theirs = reference(model, image, n)
    plain = bench.seconds_of(lambda: reference(model, image, n), device)
    found = [bench.row(f"{case}, reference", "images per second", n / plain, "1/s")]
    with torch.no_grad():
        flops = bench.flops_of(lambda: model(image[None]))
    for mixed in (False, True):
        predictor = for_inference(model, device, "bfloat16" if mixed else "float32")
        count = counting(predictor, image, n)
        ours = count().numpy()
        seconds = bench.seconds_of(count, device)
        share = (ours + theirs) / (2 * n)
        error = np.sqrt(2 * n * share * (1 - share))
        away = np.max(np.abs(ours - theirs) / np.where(error > 0, error, 1))
        precision = bench.precision_of(model, mixed, device)
        name = f"{case}, {precision}"
        found += bench.utilisation(name, n / seconds, flops, precision, device)
        found.append(bench.speed(name, "the published procedure", [plain / seconds]))
        found.append(bench.row(name, "difference of counts", away, "standard errors"))
    return found


def prepared(n, device):
    """The call that counts n draws of a small network on a core or the largest on a GPU, and what
    `replica.costs` takes for its work.
    """
    on_gpu = device.type == "cuda"
    model, image, _ = classifier(LARGE if on_gpu else SMALL, device)
    work = costs.Work("noisy pass on a GPU" if on_gpu else "noisy pass", n)
    return counting(for_inference(model, device, "mixed"), image, n), work


def radii():
    """Times of the radii of many images, on a CPU."""
    generator = np.random.default_rng(0)
    sigma, p_a = generator.uniform(0.2, 0.3, RADII), generator.uniform(0.5, 0.99993, RADII)
    cohen = bench.seconds_of(lambda: certificates.cohen_radius(sigma, p_a), bench.CPU)
    found = [bench.row(f"{RADII:,} radii of Cohen", "time", cohen, "s", device=bench.CPU)]
    for N in DIMENSIONS:
        compute = functools.partial(certificates.input_dependent_radius, sigma, 0.01, N, p_a)
        seconds = bench.seconds_of(compute, bench.CPU, turns=1)
        case = f"{RADII:,} input-dependent radii, {N:,} dimensions"
        found.append(bench.row(case, "time", seconds, "s", device=bench.CPU))
    return found


def neighbours(device):
    """The time of the nearest training images, against the bare matrix products."""
    generator, queries = torch.Generator().manual_seed(0), QUERIES[device.type]
    train = torch.rand(TRAIN, 3072, generator=generator).to(device)
    asked = torch.rand(queries, 3072, generator=generator).to(device)
    bare = bench.seconds_of(lambda: [part @ train.mT for part in asked.split(512)], device, turns=1)
    whole = bench.seconds_of(lambda: variance.knn_mean_distance(asked, train, 20), device, turns=1)
    case = f"20 neighbours of {queries:,} among {TRAIN:,} x 3072"
    return [
        bench.row(case, "time", whole, "s"),
        bench.speed(case, "bare products", [bare / whole]),
    ]


def rows(device, threads):
    """All of them."""
    found = [each for case in CASES for each in throughput(case, device)]
    return [*found, *radii(), *neighbours(device)]


if __name__ == "__main__":
    bench.alone(__file__)
