"""Which runs keep trained networks that have training and test data; it imports nothing slow."""

from replica.specs import (
    DecoderSpec,
    LowDataSpec,
    NetworkHeadSpec,
    NoisyClassifierSpec,
    ResidualSpec,
    RunSpec,
    TradeoffSpec,
)


def keeps_networks(spec: RunSpec) -> bool:
    """Whether the states of a run hold whole networks, and there are test samples for them.

    See `replica.generalization.networks` for what is left out, and why.
    """
    if isinstance(spec, LowDataSpec):
        return spec.keep_weights or (spec.active is not None and spec.active.continued)
    if isinstance(spec, DecoderSpec):
        return spec.task.kind == "text"
    return isinstance(spec, NetworkHeadSpec | NoisyClassifierSpec | ResidualSpec | TradeoffSpec)
