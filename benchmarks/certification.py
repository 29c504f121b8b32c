"""Certification against the published reference procedure, and the times of radii and neighbours.

The reference repeats the image, adds noise, predicts, brings the predictions to the host and
counts them one by one, batch by batch (Cohen et al. 2019). Both sides use the same model, device
and number of draws; the counts agree to within binomial error.

Usage: python benchmarks/certification.py [threads]
"""

import functools
import statistics
import sys
import time

import numpy as np
import torch

from replica.models.classifiers import build_classifier
from replica.smoothing import certificates, variance
from replica.smoothing.monte_carlo import class_counts, for_inference
from replica.specs import validate_run

SPEC = dict(kind="noisy_classifier", dataset="d", sigma=0.25, lr=0.1, momentum=0.9, batch=100,
            weight_decay=0, epochs=1, padding=0, seeds=1)  # fmt: skip
CASES = {
    "MLP 64-256-256-10": ({"kind": "mlp", "hidden": [256, 256]}, (1, 8, 8), 20_000),
    "CNN 16-32, 8x8": ({"kind": "cnn", "channels": [16, 32]}, (1, 8, 8), 10_000),
    "ResNet20, 28x28": ({"kind": "resnet", "depth": 20}, (1, 28, 28), 2_000),
    "ResNet110, 32x32": ({"kind": "resnet", "depth": 110}, (3, 32, 32), 1_000),
}
REFERENCE_BATCH = 400


def reference(model, image, sigma, n, K):
    counts = np.zeros(K, dtype=int)
    with torch.no_grad():
        left = n
        while left:
            size = min(left, REFERENCE_BATCH)
            left -= size
            batch = image.repeat((size, *[1] * image.dim()))
            noise = torch.randn_like(batch) * sigma
            for prediction in model(batch + noise).argmax(1).cpu().numpy():
                counts[prediction] += 1
    return counts


def seconds(work, repeats):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def throughput(device, repeats=5):
    for name, (network, shape, n) in CASES.items():
        spec = validate_run(SPEC | {"network": network}, name)
        model = build_classifier(spec, shape, 10, 0)
        model.train()
        model(torch.rand(64, *shape))
        model = model.eval().to(device)
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
        theirs = reference(model, image, 0.25, n, 10)
        plain = seconds(functools.partial(reference, model, image, 0.25, n, 10), repeats)
        line = f"{name:18} reference {n / plain:9.0f} images/s"
        for mixed in (False, True):
            fast = for_inference(model, device, mixed)
            arguments = (fast, image, 0.25, 10, lambda block: block, 0, n)
            ours = class_counts(*arguments).numpy()
            quick = seconds(functools.partial(class_counts, *arguments), repeats)
            share = (ours + theirs) / (2 * n)
            error = np.sqrt(2 * n * share * (1 - share))
            away = np.max(np.abs(ours - theirs) / np.where(error > 0, error, 1))
            line += f"; {'bfloat16' if mixed else 'float32'} {n / quick:9.0f}, ratio "
            line += f"{plain / quick:.2f}, counts {away:.1f} standard errors apart"
        print(line)


def radii():
    generator = np.random.default_rng(0)
    sigma, p_a = generator.uniform(0.2, 0.3, 10_000), generator.uniform(0.5, 0.99993, 10_000)
    print(
        f"10,000 radii of Cohen: {seconds(lambda: certificates.cohen_radius(sigma, p_a), 3):.4f} s"
    )
    for N in (64, 784, 3072, 150528):
        taken = seconds(lambda N=N: certificates.input_dependent_radius(sigma, 0.01, N, p_a), 1)
        print(f"10,000 input-dependent radii, N = {N}: {taken:.1f} s")


def neighbours():
    generator = torch.Generator().manual_seed(0)
    train = torch.rand(50_000, 3072, generator=generator)
    queries = torch.rand(10_000, 3072, generator=generator)
    bare = seconds(lambda: [rows @ train.mT for rows in queries.split(512)], 1)
    whole = seconds(lambda: variance.knn_mean_distance(queries, train, 20), 1)
    print(f"20 neighbours of 10,000 among 50,000 x 3072: {whole:.1f} s", end="; ")
    print(f"bare products {bare:.1f} s, ratio {whole / bare:.2f}")


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    throughput(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    radii()
    neighbours()
