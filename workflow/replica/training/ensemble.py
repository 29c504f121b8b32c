"""Many small models of one shape, trained as one stacked computation.

The members share nothing but the loop: each has its own initialisation, stream of batches, step
size and penalties. A member that diverges is frozen and named; the others continue.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replica.progress import progress
from replica.provenance import stream_seed
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

State = dict[str, Tensor]
# A loss this large counts as divergence even if it is still finite.
DIVERGED = 1e6
# Steps between two checks of the clock.
SAVE_EVERY = 10


class TrainingDiverged(RuntimeError):
    """No member of an ensemble, or the only model, has a finite loss any more."""


@dataclass(frozen=True)
class Trained:
    """The result of a run.

    Attributes:
        snapshots: step -> the stacked parameters (S, ...), on the CPU.
        steps: (T,) the logged steps.
        fit, penalty: (T, S) float64, NaN from the step on at which a member diverged.
        diverged_at: (S,) int64, the step at which divergence was noticed, -1 for never.
    """

    snapshots: dict[int, State]
    steps: np.ndarray
    fit: np.ndarray
    penalty: np.ndarray
    diverged_at: Tensor


def log_spaced(steps: int, count: int) -> list[int]:
    """About `count` steps from 0 to `steps`, spaced evenly in log(step), both ends included."""
    inner = np.geomspace(1, steps, max(count - 1, 1)).round().astype(int)
    return sorted({0, *inner.tolist(), steps})


def generators(job: Job, seeds: Sequence[int]) -> list[torch.Generator]:
    """The stream from which each member draws its start."""
    streams = [stream_seed(job.study, job.run, seed, "start") for seed in seeds]
    return [torch.Generator().manual_seed(stream) for stream in streams]


def shuffled(job: Job, N: int, batch: int) -> Callable[[int], Tensor]:
    """From a step (from 1) of passes over N samples to the rows (S, b) of its batch.

    Each member has a stream of its own, made from the epoch.
    """

    @functools.lru_cache(maxsize=1)
    def orders(epoch: int) -> Tensor:
        streams = [stream_seed(job.study, job.run, seed, f"epoch {epoch}") for seed in job.seeds]
        drawn = [torch.randperm(N, generator=torch.Generator().manual_seed(s)) for s in streams]
        return torch.stack(drawn).to(job.device)

    def rows(step: int) -> Tensor:
        epoch, position = divmod(step - 1, -(-N // batch))
        return orders(epoch)[:, position * batch : (position + 1) * batch]

    return rows


def train(
    params: State,
    advance: Callable[[int], None],
    evaluate: Callable[[State], tuple[Tensor, Tensor]],
    *,
    steps: int,
    log_steps: Sequence[int],
    snapshot_steps: Sequence[int],
    checkpoint: Checkpoint,
    extra: Mapping[str, Tensor] | None = None,
    check_every: int = 100,
    name: str = "training",
) -> Trained:
    """Advance a stack of models `steps` times; log, keep states, save checkpoints, resume.

    Args:
        params: name -> (S, ...), changed in place.
        advance: takes the step number (from 1) and changes `params` in place.
        evaluate: parameters -> (fit (S,), penalty (S,)).
        steps: number of steps.
        log_steps: steps at which fit and penalty are logged.
        snapshot_steps: steps at which the parameters are kept.
        checkpoint: where the state is saved, and when.
        extra: further stacked state that `advance` changes in place, such as momentum.
        check_every: steps between two checks for members that diverged.
        name: for the progress line.

    Raises:
        TrainingDiverged: no member is left; names the step and the last checkpoint.
        SystemExit: SIGTERM came; the state is saved.
    """
    record = _Record.empty({**params, **(extra or {})}, log_steps)
    if (saved := checkpoint.load()) is not None:
        record.load(saved)
    looks, keep = {*log_steps, *snapshot_steps}, set(snapshot_steps)
    losses = torch.empty(0)

    def visit(step: int) -> None:
        nonlocal losses
        if step in looks or step % check_every == 0:
            losses = record.look(step, *evaluate(params))
            if not len(losses):
                raise TrainingDiverged(
                    f"Every member of {name} has diverged, the last one at step {step}; "
                    f"lower lr{_last_checkpoint(checkpoint)}."
                )
        if step in keep:
            kept = {k: v.detach().to("cpu", copy=True) for k, v in params.items()}
            record.snapshots[step] = kept
        record.done = step

    with checkpoint.catching_sigterm(), progress(name, steps, max(record.done, 0)) as tick:
        if record.done < 0:
            visit(0)
        for step in range(record.done + 1, steps + 1):
            advance(step)
            visit(step)
            if step % check_every == 0:
                tick(step, lambda: f"loss {losses.min():.6g}")
            if checkpoint.stopping or (step % SAVE_EVERY == 0 and checkpoint.due()):
                checkpoint.save(record.state)
    fit, penalty = record.history["fit"], record.history["penalty"]
    return Trained(record.snapshots, np.asarray(log_steps), fit, penalty, record.diverged_at)


@dataclass
class _Record:
    """The state of the training of a stack: everything that its checkpoint holds.

    Attributes:
        live: the stacked parameters and all else that `advance` changes in place.
        log_rows: logged step -> row of `history`.
        history: fit and penalty, see `Trained`.
        snapshots, diverged_at: see `Trained`.
        done: the last completed step, -1 before the start was evaluated.
    """

    live: State
    log_rows: dict[int, int]
    history: dict[str, np.ndarray]
    snapshots: dict[int, State]
    diverged_at: Tensor
    done: int = -1

    @classmethod
    def empty(cls, live: State, log_steps: Sequence[int]) -> "_Record":
        members = len(next(iter(live.values())))
        history = {k: np.full((len(log_steps), members), np.nan) for k in ("fit", "penalty")}
        log_rows = {step: row for row, step in enumerate(log_steps)}
        return cls(live, log_rows, history, {}, torch.full((members,), -1))

    def look(self, step: int, fit: Tensor, penalty: Tensor) -> Tensor:
        """Freeze members that diverged, log the others, and return their losses."""
        fit, penalty = fit.double().cpu(), penalty.double().cpu()
        loss = fit + penalty
        bad = ~(loss.abs() < DIVERGED) & (self.diverged_at < 0)
        if bad.any():
            self.diverged_at[bad] = step
            for value in self.live.values():
                value[bad.to(value.device)] = 0
        alive = self.diverged_at < 0
        if step in self.log_rows:
            for name, values in (("fit", fit), ("penalty", penalty)):
                self.history[name][self.log_rows[step], alive.numpy()] = values[alive].numpy()
        return loss[alive]

    def state(self) -> State:
        saved = {f"live/{k}": v for k, v in self.live.items()}
        saved |= {f"kept/{s}/{k}": v for s, kept in self.snapshots.items() for k, v in kept.items()}
        saved |= {f"history/{k}": torch.from_numpy(v) for k, v in self.history.items()}
        return saved | {"diverged_at": self.diverged_at, "done": torch.tensor(self.done)}

    def load(self, saved: State) -> None:
        """Continue from what `state` returned."""
        for key, value in self.live.items():
            value.copy_(saved[f"live/{key}"])
        for key, values in self.history.items():
            values[:] = saved[f"history/{key}"].numpy()
        for key, value in saved.items():
            if key.startswith("kept/"):
                _, step, parameter = key.split("/", 2)
                self.snapshots.setdefault(int(step), {})[parameter] = value
        self.diverged_at.copy_(saved["diverged_at"])
        self.done = int(saved["done"])


Schedule = Callable[[int], float]


@dataclass(frozen=True)
class ByHand:
    """An objective by its gradients: (parameters, step) -> name -> (S, ...)."""

    gradients: Callable[[State, int], State]


Objective = Callable[[State, int], Tensor] | ByHand


def sgd(
    params: State,
    objective: Objective,
    *,
    lr: Tensor,
    momentum: float = 0.0,
    schedule: Schedule = lambda _: 1.0,
    penalties: Mapping[str, float] | None = None,
) -> tuple[Callable[[int], None], State]:
    """Gradient descent for any stacked model.

    Args:
        params: name -> (S, ...), changed in place.
        objective: (parameters, step) -> the loss of each member, (S,), which is differentiated
            automatically; or its gradients. Members must not mix.
        lr: (S,).
        momentum: v <- momentum v + gradient; the step is lr v.
        schedule: from the step (from 1) to a factor of lr.
        penalties: name -> λ of a term (λ/2)|W|² that is minimised beside the objective.

    Returns:
        `advance` for `train`, and the momentum buffers for its `extra` (empty without momentum).
    """
    velocity = {f"momentum/{k}": torch.zeros_like(v) for k, v in params.items()} if momentum else {}
    penalties = penalties or {}

    def advance(step: int) -> None:
        for key, gradient in _gradients(params, objective, step).items():
            if key in penalties:
                gradient = gradient.add(params[key], alpha=penalties[key])
            if momentum:
                gradient = velocity[f"momentum/{key}"].mul_(momentum).add_(gradient)
            params[key].sub_(_rate(lr * schedule(step), gradient) * gradient)

    return advance, velocity


def adam(
    params: State,
    objective: Objective,
    *,
    lr: Tensor,
    schedule: Schedule = lambda _: 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    decayed: Collection[str] = (),
    penalties: Mapping[str, float] | None = None,
) -> tuple[Callable[[int], None], State]:
    """Adam (Kingma and Ba 2015) for any stacked model, on the gradient of all penalties as well.

    With `weight_decay` it is AdamW (Loshchilov and Hutter 2019).

    Args:
        params, objective, lr, schedule, penalties: see `sgd`; `params` are contiguous.
        betas: decay of the means of the gradients and of their squares.
        epsilon: added to the root of the latter.
        weight_decay: a step takes this times lr off the parameters `decayed`.

    Returns:
        `advance` for `train`, and the two means for its `extra`.

    Raises:
        ValueError: parameters are not contiguous.
    """
    if not all(value.is_contiguous() for value in params.values()):
        raise ValueError("The fused Adam step needs contiguous parameters.")
    moments = {f"adam{i}/{k}": torch.zeros_like(v) for i in (1, 2) for k, v in params.items()}
    device = next(iter(params.values())).device
    # One call of the fused step has one rate and one λ.
    alike = bool((lr == lr[0]).all())
    members = [slice(None)] if alike else [slice(s, s + 1) for s in range(len(lr))]
    decays = [key for key in params if weight_decay and key in decayed]
    names: dict[float, list[str]] = {}
    for key in params:
        names.setdefault((penalties or {}).get(key, 0.0), []).append(key)

    def advance(step: int) -> None:
        gradients = _gradients(params, objective, step)
        count = torch.tensor(float(step), device=device)
        for own in members:
            rate = float(lr[own][0]) * schedule(step)
            for key in decays:
                params[key][own].mul_(1 - rate * weight_decay)
            for strength, keys in names.items():
                torch._fused_adam_(
                    [params[key][own] for key in keys],
                    [gradients[key][own].contiguous() for key in keys],
                    [moments[f"adam1/{key}"][own] for key in keys],
                    [moments[f"adam2/{key}"][own] for key in keys],
                    [],
                    [count] * len(keys),
                    lr=rate,
                    beta1=betas[0],
                    beta2=betas[1],
                    weight_decay=strength,
                    eps=epsilon,
                    amsgrad=False,
                    maximize=False,
                )

    return advance, moments


def _gradients(params: State, objective: Objective, step: int) -> State:
    if isinstance(objective, ByHand):
        return objective.gradients(params, step)
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    # The members' losses depend on their own parameters alone: the gradient of the sum is the
    # gradient of each.
    found = torch.autograd.grad(objective(leaves, step).sum(), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def _rate(lr: Tensor, like: Tensor) -> Tensor:
    return lr.to(like).reshape(-1, *[1] * (like.dim() - 1))


def _last_checkpoint(checkpoint: Checkpoint) -> str:
    if checkpoint.path is None or not checkpoint.path.exists():
        return ""
    return f" (the last good state is {checkpoint.path})"
