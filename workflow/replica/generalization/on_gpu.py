"""Measures of generalization of large networks, with the passes of the networks on a GPU.

What is drawn, and the vectors of the Lanczos iteration, stay on the CPU: the measures are those of
`replica.measures.generalization`, in float64 as there, and differ from them only by rounding.
"""

import inspect
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from replica.artifacts import read_tensors
from replica.generalization.table import NETWORK
from replica.generalization.trained_networks import trained_networks
from replica.measures.generalization import Forward, Params, Trained, measure


def measure_large_networks(
    part: dict[str, Any], threads: int, device: torch.device
) -> pd.DataFrame:
    """Measure every network that a job keeps.

    Args:
        part: as for `replica.generalization.table.measure_networks`.
        threads: CPU threads.
        device: where forward passes and their derivatives are computed.

    Returns:
        Columns `NETWORK`, metric, value: a row a network and metric.
    """
    torch.set_num_threads(threads)
    names = {name: part[name] for name in ("study", "run")}
    states, _ = read_tensors(part["states"])
    frames = [pd.DataFrame(columns=[*NETWORK, "metric", "value"])]
    for labels, network in trained_networks(part["spec"], states, part["card"], **names):
        values = measure(on_device(network, device))
        frame = pd.DataFrame({"metric": list(values), "value": list(values.values())})
        frames.append(frame.assign(**names, **labels)[frames[0].columns])
    return pd.concat(frames[1:] or frames, ignore_index=True)


def on_device(network: Trained, device: torch.device) -> Trained:
    """The same network, whose passes are computed on a device; they take and return CPU tensors."""
    paths = None if network.paths is None else _moved(network.paths, device)
    return replace(network, logits=_moved(network.logits, device), paths=paths)


def _moved(forward: Forward, device: torch.device) -> Forward:
    # Parameters are arguments, but the running statistics of batch norm are in the module.
    for value in inspect.getclosurevars(forward).nonlocals.values():
        if isinstance(value, nn.Module):
            value.to(device)

    def moved(params: Params, inputs: Tensor) -> Tensor:
        there = {name: value.to(device) for name, value in params.items()}
        # Positions and masks that a pass makes are made there.
        with device:
            return forward(there, inputs.to(device)).cpu()

    return moved
