"""One record a kind of run, and nothing that depends on a kind elsewhere."""

import dataclasses
from typing import get_args

import pytest

from replica import kinds, provenance
from replica.kinds import KINDS, Kind, features


def test_a_kind_is_called_as_its_settings_say():
    for name, kind in KINDS.items():
        assert get_args(kind.spec.model_fields["kind"].annotation) == (name,)
        assert "seeds" in kind.spec.model_fields, name


def test_its_functions_are_there():
    for kind in KINDS.values():
        for entry in (kind.train, kind.measure):
            assert provenance.code_digest(entry)
    assert provenance.code_digest(kinds.low_data.ROUND)


def test_a_part_that_was_forgotten_is_named():
    whole = {field.name: getattr(KINDS["dufm"], field.name) for field in dataclasses.fields(Kind)}
    for part in ("spec", "train", "measure", "cost", "keeps_networks"):
        with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{part}'"):
            Kind(**{name: value for name, value in whole.items() if name != part})


def test_what_a_run_is_about_is_a_kind_that_is_certified():
    for kind in KINDS.values():
        assert (kind.base is not None) == (kind.rule == "certify")
        assert kind.base is None or kind.base in KINDS


def reached(entry):
    """The definitions that a function reaches in this package."""
    module, _, name = entry.partition(":")
    found, todo = set(), [(module, name)]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += [to for _, to in provenance.references(*node)]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_cost_is_in_a_key(kind):
    """What a job asks for changes no result, so a better estimate re-runs nothing."""
    for entry in (KINDS[kind].train, KINDS[kind].measure, kinds.low_data.ROUND):
        names = reached(entry)
        assert ("replica.kinds.base", "Strict") in names
        assert not any(module == "replica.costs" for module, _ in names)
        of_kinds = {name for module, name in names if module.startswith("replica.kinds")}
        assert not any(name in ("KINDS", "Kind") or name.endswith("_cost") for name in of_kinds)


@pytest.mark.parametrize("kind", KINDS)
def test_no_device_is_in_a_key(kind):
    """Which GPU a job gets, and what becomes of a full one, changes no result."""
    for entry in (KINDS[kind].train, KINDS[kind].measure, kinds.low_data.ROUND):
        names = reached(entry)
        assert not any(module == "replica.training.devices" for module, _ in names)
        assert ("replica.training.jobs", "open_job") not in names
        assert ("replica.training.precision", "in_words") not in names


def test_a_stack_of_many_seeds_costs_more_and_a_certification_counts_its_classifiers():
    spec = KINDS["dufm"].spec.model_validate(
        {"kind": "dufm", "K": 3, "L": 3, "n": 5, "width": 16, "lambda_w": 0.01, "lr": 0.1,
         "steps": 1000, "h_std": 1.0, "w_gain": 1.0, "seeds": 4}
    )  # fmt: skip
    one, four = (kinds.training_cost(spec, seeds).work.amount for seeds in (1, 4))
    start = features.OPERATIONS_PER_STEP["stack in float32"] * spec.steps
    assert four - start == pytest.approx(4 * (one - start))
