"""Rules are fixed before results are seen; one that changes needs an entry that says why."""

import datetime

import pandas as pd
import pytest

from project import copy_project
from replica import rulebook
from replica.configuration import ConfigError


def test_every_rule_is_noted_as_it_is(root):
    """After a change: replica rules "why" --results seen (or "not seen")."""
    again = rulebook.changed(root)
    assert not again, f"no entry in {rulebook.RULES}: {', '.join(map('.'.join, again))}"


def test_digests_that_look_like_numbers_stay_words(root, tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    digest = {"rule": "12345678901234e9", "settings": {"laptop": "0000000000000001"}}
    monkeypatch.setattr(rulebook, "digests", lambda root: {("s", "c1"): digest})
    rulebook.add_entries(tmp_path, "why", False, datetime.date(2026, 1, 2))
    assert rulebook.changed(tmp_path) == []


@pytest.mark.slow
def test_a_changed_rule_or_setting_needs_an_entry(root, tmp_path):
    project = copy_project(root, tmp_path / "project")
    assert rulebook.changed(project) == []
    path = project / "config/studies/low_rank.yaml"
    text = path.read_text(encoding="utf-8")
    # Settings of the runs behind c9, at the paper scale.
    path.write_text(
        text.replace("lr: 0.1, steps: 2000000", "lr: 0.1, steps: 3000000"), encoding="utf-8"
    )
    assert rulebook.changed(project) == [("low_rank", "c9")]
    today = datetime.date(2026, 1, 2)
    assert rulebook.add_entries(project, "more steps", True, today) == [("low_rank", "c9")]
    assert rulebook.changed(project) == []
    *before, last = rulebook.read(project)["low_rank", "c9"]
    assert len(before) >= 1 and (last.reason, last.results) == ("more steps", "seen")
    (project / rulebook.RULES).write_text("low_rank: {c9: [{results: seen}]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config/rules.lock, low_rank.c9"):
        rulebook.read(project)


def test_the_scorecard_says_which_rule_and_settings_ran(tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    fixed = {"rule": "a", "settings": {"laptop": "b"}}
    monkeypatch.setattr(rulebook, "digests", lambda root: {("s", "c1"): fixed})
    rulebook.add_entries(tmp_path, "more steps", True, datetime.date(2026, 1, 2))
    card = pd.DataFrame({"study": ["s", "own"], "claim": ["c1", "c1"]})

    def said(scale: str, rule: str, settings: str) -> list[str]:
        ran = dict.fromkeys([("s", "c1"), ("own", "c1")], rulebook.Digests(rule, settings))
        return rulebook.with_dates(card, tmp_path, scale, ran)["fixed"].tolist()

    known = "2026-01-02, results seen: more steps"
    assert said("laptop", "a", "b") == [known, ""]
    # No verdict on evidence rests on the settings of a first look, which are not noted.
    assert said("smoke", "a", "other") == [known, ""]
    own = f"the rule {known}; the settings of these runs differ from those fixed then"
    assert said("laptop", "a", "other") == [own, ""]
    assert said("laptop", "other", "b") == [f"not fixed: the rule was changed after {known}", ""]
    # Another settings at a scale that had none, a rule before its results, and one after them.
    for day, seen, rule, settings in [
        (3, True, "a", {"laptop": "b", "desktop": "c"}), (4, False, "A", {"laptop": "b"}),
        (5, True, "d", {"laptop": "b"}), (6, True, "d", {"laptop": "e"}),
        (7, True, "f", {"laptop": "e"}),
    ]:  # fmt: skip
        monkeypatch.setattr(
            rulebook, "digests", lambda root, own=(rule, settings): {
                ("s", "c1"): {"rule": own[0], "settings": own[1]}
            }
        )  # fmt: skip
        rulebook.add_entries(tmp_path, f"of day {day}.", seen, datetime.date(2026, 1, day))
    assert said("laptop", "f", "e")[0] == (
        "2026-01-07, results seen: of day 7. Earlier changes with results seen: "
        "(1) of day 5. (2) of day 6."
    )
    assert said("desktop", "f", "e")[0].endswith("results seen: (1) of day 5.")
