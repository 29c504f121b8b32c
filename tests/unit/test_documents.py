"""The tables of claims in docs/<study>.md against the committed scorecards."""

import re

import pandas as pd
import pytest

from replica.verdicts import FAILS, HOLDS, UNDECIDABLE

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
VERDICTS = {"holds": HOLDS, "hold": HOLDS, "does not hold": FAILS, "not decidable": UNDECIDABLE}
# Numbers that the details of a verdict leave out, read off the table of its figure.
OFF_THE_TABLE = {
    ("agop", "c2", "laptop"): "-0.111", ("agop", "c7", "laptop"): "10",
    ("agop", "c2", "desktop"): "46", ("agop", "c4", "desktop"): "6 2.3 2.5",
    ("depth", "c2", "laptop"): "0.0351 0.0331 0.0340 2", ("depth", "c3", "laptop"): "0.01",
    ("depth", "c4", "laptop"): "13", ("depth", "c5", "laptop"): "0.210 0.193",
    ("depth", "c7", "laptop"): "0.0230 0.0198 0.0007 0.0019",
    ("dufm", "c3", "laptop"): "4 24", ("dufm", "c5", "laptop"): "18",
    ("dufm", "c3", "desktop"): "117 48", ("dufm", "c5", "desktop"): "30",
    ("fc_low_data", "c8", "laptop"): "10 539",
    ("fc_low_data", "c12", "laptop"): "10.6 1.9 4.8 1.3 -1.5 0.4 1.8",
    ("fc_low_data", "c13", "laptop"): "5.7",
    ("idrs", "c6", "laptop"): "0.017 0.031", ("idrs", "c8", "laptop"): "0.89 0.98",
    ("idrs", "c9", "laptop"): "0.9997 1.5",
    ("low_rank", "c1", "laptop"): "20",
    ("low_rank", "c7", "laptop"): "2 10", ("low_rank", "c9", "laptop"): "150,000 75,000",
    ("low_rank", "c1", "desktop"): "19 20", ("low_rank", "c2", "desktop"): "49",
    ("low_rank", "c4", "desktop"): "0.1687", ("low_rank", "c7", "desktop"): "4 12",
    ("mol", "c1", "laptop"): "50", ("mol", "c6", "laptop"): "10 64 0.254",
    ("sinks", "c2", "laptop"): "0.89 65 72 95 71 48 68 -0.86",
    ("sinks", "c5", "laptop"): "0.87 0.002 0.985 0.25 0.74",
    ("sinks", "c5_tw", "laptop"): "0.054 0.053 0.53 0.58 0.47 0.60",
}  # fmt: skip


def claims_of(cell):
    """The claims that a first cell is about: `c4 the same`, `c1-c4, c10`, `c10, c11, c12 theory`."""
    named = re.match(r"c\d+\w*(?:(?:, |-)c\d+\w*)*", cell)
    found = []
    for word in named[0].split(", ") if named else []:
        first, _, last = word.partition("-")
        found += [f"c{n}" for n in range(int(first[1:]), int(last[1:]) + 1)] if last else [first]
    return found


def cells(root):
    """(study, claims, scale, cell) of every table of claims that says what a scale showed."""
    for page in sorted((root / "docs").glob("*.md")):
        if not (root / f"config/studies/{page.stem}.yaml").exists():
            continue
        head = None
        for line in page.read_text(encoding="utf-8").splitlines():
            row = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not row or head is None:
                head = row or None
            elif head[0] == "claim" and (claims := claims_of(row[0])):
                for name, cell in zip(head[1:], row[1:], strict=True):
                    if name not in ("published", "rests on"):
                        yield page.stem, claims, "desktop" if "desktop" in name else "laptop", cell


def is_rounded(text, numbers):
    """Whether one of some numbers, or of their hundredfold, rounds to what a text says.

    Words may take the place of a sign ("falls by", "below"), but not of a minus that is written.
    """
    digits, _, exponent = text.replace(",", "").partition("e")
    last = 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
    said = float(text.replace(",", ""))
    known = numbers if said < 0 else map(abs, numbers)
    return any(abs(x * by - said) <= 0.501 * last for x in known for by in (1, 100))


@pytest.fixture(scope="module")
def scorecards(root):
    return {
        scale: pd.read_csv(root / f"docs/evidence/{scale}/scorecard.csv").set_index(
            ["study", "claim"]
        )
        for scale in ("laptop", "desktop")
    }


def test_the_verdicts_in_the_documents_are_those_of_the_scorecards(root, scorecards):
    wrong, read = [], 0
    for study, claims, scale, cell in cells(root):
        said = re.match("|".join(VERDICTS), cell)
        for claim in claims if said else []:
            verdict = scorecards[scale].loc[(study, claim), "verdict"]
            read += 1
            if verdict != VERDICTS[said[0]]:
                wrong.append((study, claim, scale, said[0], verdict))
    assert not wrong and read > 100


def test_the_correlations_of_the_page_are_those_of_the_evidence(root):
    from replica.generalization.table import rank_correlations

    tables = sorted(root.glob("docs/evidence/laptop/*/generalization/small.parquet"))
    found = rank_correlations(pd.concat(map(pd.read_parquet, tables)))
    own = found[found["measure"].eq("margin_q50") & found["gap"].eq("loss_gap")]
    # A study with several families has a row of all of them besides.
    own = own[own["kind"].eq("all") | ~own["study"].isin(own.loc[own["kind"].eq("all"), "study"])]
    tested = found["chance"].notna().sum()
    said = (
        f"there are {own['networks'].sum()} networks of {own['settings'].sum()} settings and "
        f"{tested} correlations (with the few networks of `dufm` and `low_rank`, which are too few "
        f"to correlate): chance puts {0.05 * tested:.0f} below 5 %, "
        f"{(found['chance'] < 0.05).sum()} are, and {(found['corrected'] < 0.05).sum()} remain."
    )
    page = " ".join((root / "docs/generalization.md").read_text(encoding="utf-8").split())
    assert said in page
    stars = found[found["corrected"].lt(0.05) & found["study"].eq("depth")]
    for measure, value in zip(stars["measure"], stars["correlation"], strict=True):
        assert f"{value:.2f} for `{measure}`" in page


def test_the_numbers_in_the_tables_of_claims_are_those_of_the_scorecards(root, scorecards):
    wrong, read, used = [], 0, set()
    for study, claims, scale, cell in cells(root):
        place = study, claims[0], scale
        known = OFF_THE_TABLE.get(place, "").split()
        used |= {(place, text) for text in NUMBER.findall(cell) if text in known}
        said = [text for text in NUMBER.findall(cell) if text not in known]
        card = scorecards[scale]
        # Of what has not run there is no verdict, and a document has no number of it either.
        rows = [card.loc[(study, claim)] for claim in claims if (study, claim) in card.index]
        words = " ".join(f"{row[['detail', 'value', 'statement']].to_list()}" for row in rows)
        numbers = [float(text.replace(",", "")) for text in NUMBER.findall(words)]
        read += len(said)
        wrong += [(place, text) for text in said if not is_rounded(text, numbers)]
    assert not wrong and read > 300
    assert used == {(place, text) for place, all_ in OFF_THE_TABLE.items() for text in all_.split()}
