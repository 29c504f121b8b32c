"""Networks with a deep head: their training, and what is observed of their layers on the way."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from replica.data.splits import Labelled, standardised
from replica.kernels.metrics import START
from replica.kinds.kernels import ObservedNetworkSpec
from replica.measures.moments import ClassMoments
from replica.models.observed_networks import (
    ObservedNetwork,
    build_observed_network,
    gradients_before_relu,
)
from replica.training import loop
from replica.training.jobs import Job, Result

HISTORY = ["run", "seed", "steps", "step", "metric", "value"]
_BATCH = 1000


def train_observed_network(spec: ObservedNetworkSpec, job: Job) -> Result:
    """Stochastic gradient descent on the squared loss, observed after each `spec.every` epochs.

    As in the official code the first observation of a training is after one epoch and counts as
    epoch 0, so there are `spec.epochs` + 1 epochs. The network before it is epoch `START`.

    Returns:
        States `<epoch>/<what>` (S, ...), see `observe`, and `seed` (S,); the history (columns
        `HISTORY`) of the loss over each epoch.
    """
    torch.set_num_threads(job.threads)
    data = standardised(job.data(), spec.images)
    inputs, labels = data.inputs.to(job.device), data.labels.to(job.device)
    on_device = Labelled(inputs, labels, data.K)

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": F.mse_loss(model(x), targets(y, data.K))}

    recipe = loop.Recipe(
        lr=spec.lr,
        epochs=spec.epochs + 1,
        batch=spec.batch,
        momentum=spec.momentum,
        restarts=spec.momentum_restarts,
        decay={"": spec.weight_decay},
        warmup=1 / (spec.epochs + 1) if spec.warm_up else 0.0,
    )
    observed = (0, *range(1, spec.epochs + 2, spec.every))
    shape = tuple(inputs.shape[1:])
    runs, history = loop.train_seeds(
        job,
        lambda seed: build_observed_network(spec, shape, data.K, seed),
        inputs,
        labels,
        objective,
        recipe,
        snapshot_epochs=observed,
        keep=lambda network: observe(network, on_device),
    )
    states = {"seed": torch.tensor(job.seeds)}
    for epoch in observed:
        for what in runs[0].snapshots[epoch]:
            stacked = torch.stack([run.snapshots[epoch][what] for run in runs])
            states[f"{epoch + START}/{what}"] = stacked
    history = history.assign(step=history["step"] - 1, run=job.run, steps=spec.epochs)
    return Result(states, history[HISTORY])


def targets(labels: Tensor, K: int) -> Tensor:
    """One class against the others: 1 for the own class, -1 for others, (b, K)."""
    return F.one_hot(labels, K).float() * 2 - 1


@torch.no_grad()
def observe(network: ObservedNetwork, data: Labelled) -> dict[str, Tensor]:
    """What the metrics of a network are computed from, over all training samples.

    With the notation of `replica.models.observed_networks`, on the CPU: `means/phi<l>` (K, d) and
    `trace/phi<l>` for l = 0..L, the same of `z<l>` for l = 1..L, in float64; `gram/<l>` = W_l W_lᵀ,
    `sums/<l>` = W_l 1, and `gradients/<l>` = Σ over samples and outputs of g gᵀ, g = ∂f_k/∂z_l,
    over N; `inputs/<l>`, the number of inputs of layer l; `loss` and `accuracy`.

    The AGOP at the input of layer l is W_lᵀ `gradients/<l>` W_l: the matrices of width x width say
    all of it, whatever the number of inputs.
    """
    network.eval()
    moments: dict[str, ClassMoments] = {}
    N, L = len(data.labels), len(network.layers)
    outer: list[Tensor | float] = [0.0] * L
    loss = right = 0.0
    for x, y in zip(data.inputs.split(_BATCH), data.labels.split(_BATCH), strict=True):
        features, before = network.activations(x)
        named = {f"phi{l}": values for l, values in enumerate(features)}
        named |= {f"z{l}": values for l, values in enumerate(before, start=1)}
        for name, values in named.items():
            if name not in moments:
                device = values.device
                moments[name] = ClassMoments.empty(data.K, values.shape[1], device)
            moments[name].add(values, y)
        output = network.readout(features[-1])
        loss += F.mse_loss(output, targets(y, data.K)).item() * len(y) / N
        right += (output.argmax(1) == y).sum().item() / N
        for l, g in enumerate(gradients_before_relu(network, features)):
            g = g.flatten(0, 1)
            outer[l] = outer[l] + (g.T @ g).double()
    kept = {f"means/{name}": own.means.T.contiguous() for name, own in moments.items()}
    kept |= {f"trace/{name}": own.within_trace for name, own in moments.items()}
    for l, layer in enumerate(network.layers, start=1):
        W = layer.weight.double()
        kept[f"gram/{l}"] = (W @ W.T).float()
        kept[f"sums/{l}"] = W.sum(1)
        kept[f"gradients/{l}"] = (outer[l - 1] / N).float()
        kept[f"inputs/{l}"] = torch.tensor(W.shape[1])
    kept |= {"loss": torch.tensor(loss).double(), "accuracy": torch.tensor(right).double()}
    return {name: value.cpu() for name, value in kept.items()}
