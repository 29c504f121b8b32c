"""A training of a small model, for a process of its own that may be killed."""

from pathlib import Path

import torch

from replica import artifacts
from replica.models import dufm
from replica.training import ensemble
from replica.training.checkpoint import Checkpoint


def train(checkpoint: Path, result: Path, steps: int) -> None:
    """Train four members, and write their states and losses to `result`."""
    torch.set_num_threads(1)
    generators = [torch.Generator().manual_seed(s) for s in range(4)]
    params = dufm.initialise(
        K=4, L=3, n=3, width=8, h_std=1.0, w_gain=1.0, generators=generators, dtype=torch.float32
    )
    lam, lr = (torch.full((4,), x, dtype=torch.float64) for x in (0.01, 0.1))
    step = dufm.gradient_descent(params, lam, lam, lr)
    trained = ensemble.train(
        params,
        lambda _: step(),
        lambda p: dufm.fit_and_penalty(p, lam, lam),
        steps=steps,
        log_steps=ensemble.log_spaced(steps, 50),
        snapshot_steps=[0, steps // 2, steps],
        checkpoint=Checkpoint(checkpoint, every=0.02),
    )
    states = {f"{s}/{k}": v for s, kept in trained.snapshots.items() for k, v in kept.items()}
    states |= {"fit": torch.from_numpy(trained.fit), "diverged_at": trained.diverged_at}
    artifacts.write_tensors(result, states, {})
