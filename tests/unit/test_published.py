"""Published numbers beside ours: none is lost, and partners are the same quantity."""

import numpy as np
import pandas as pd
import pytest

from replica import artifacts
from replica.measures.inputs import Inputs, figure_table
from replica.plan import make_plan
from replica.published import COLUMNS, PARTNERS, published_beside_ours


@pytest.fixture(scope="module")
def laptop(root):
    return published_beside_ours(root, root / "docs/evidence/laptop")


def test_no_published_number_is_lost(root, laptop, tmp_path):
    numbers = pd.concat(
        [pd.read_csv(path, dtype={"x": str}).assign(study=path.stem)
         for path in sorted((root / "config/published").glob("*.csv"))], ignore_index=True
    )  # fmt: skip
    without_results = published_beside_ours(root, tmp_path)
    for beside in (laptop, without_results):
        assert list(beside.columns) == COLUMNS and len(beside) == len(numbers) > 1000
        for ours, theirs in [("figure", "figure"), ("series", "series"), ("x", "x"),
                             ("published", "y"), ("published_err", "y_err"), ("study", "study"),
                             ("source", "source"), ("kind", "kind")]:  # fmt: skip
            pd.testing.assert_series_equal(beside[ours], numbers[theirs], check_names=False)
    assert without_results["ours"].isna().all() and (without_results["runs"] == 0).all()


def test_what_has_no_partner_stays_empty(laptop):
    alone = laptop[laptop["runs"] == 0]
    assert 100 < len(alone) < len(laptop)
    assert alone[["ours", "ours_sd", "difference"]].isna().all(axis=None)
    assert (alone[["scale", "status", "data"]] == "").all(axis=None)


def test_derived_numbers_are_ours_to_their_last_digit(laptop):
    """Closed forms do not depend on the scale: a partner that is something else would show."""
    exact = laptop[(laptop["kind"] == "derived") & (laptop["runs"] > 0)]
    exact = exact[~exact["figure"].isin(["cohen_summary_cifar10", "fig3_relative_gain"])]
    assert len(exact) > 90 and set(exact["study"]) == {"agop", "depth", "fc_low_data", "idrs",
                                                       "mol", "sinks"}  # fmt: skip
    apart = exact["difference"].abs() / exact["published"].abs().clip(lower=0.1)
    assert apart.max() < 5e-3, exact.loc[apart.idxmax()]


def write(folder, study, figure, rows, **same):
    table = pd.DataFrame(rows).assign(scale="paper", status="published", **same)
    path = folder / study / "figures" / f"{figure}.parquet"
    artifacts.write_table(path, table, {"key": "k", "device": "cpu"})


def test_accuracies_are_means_over_seeds_of_the_original_head(root, tmp_path):
    rows = [
        {"series": "ResNet18", "n_labelled": 1000, "head": head, "seed": seed, "labelled_set": 0,
         "test_accuracy": value if head == "original" else 0.0}
        for seed, value in enumerate([44.0, 46.0, 48.0]) for head in ("original", "extra")
    ]  # fmt: skip
    rows += [{**row, "series": "FR-ResNet18", "test_accuracy": row["test_accuracy"] + 7}
             for row in rows]  # fmt: skip
    write(tmp_path, "fc_low_data", "fig3a_supervised_cifar10", rows, dataset="cifar10")
    beside = published_beside_ours(root, tmp_path, ["fc_low_data"])
    own = beside[beside["runs"] > 0].set_index("series")
    assert list(own.index) == ["ResNet18", "FR-ResNet18", "gain_pp_text"]
    assert own.loc["ResNet18", "ours"] == 46 and own.loc["ResNet18", "ours_sd"] == 2
    assert own.loc["ResNet18", "difference"] == pytest.approx(46 - 46.18)
    assert own.loc["gain_pp_text", "ours"] == 7 and (own["data"] == "cifar10").all()
    assert (own["runs"] == 3).all() and (own["status"] == "published").all()


def test_a_curve_is_read_at_the_published_radii(root, tmp_path):
    images = {"series": "constant sigma=0.25", "panel": "image", "run": "r", "seed": 0}
    rows = [{**images, "radius": radius, "correct": right}
            for radius, right in [(0.05, True), (0.3, True), (0.0, False), (0.12, True)]]  # fmt: skip
    rows.append({**images, "panel": "curve", "radius": 0.0, "dataset": "cifar10"})
    write(tmp_path, "idrs", "cohen_cert_acc_cifar10", rows)
    own = published_beside_ours(root, tmp_path, ["idrs"])
    own = own[own["runs"] > 0].set_index("x")["ours"]
    assert [own["0"], own["0.05"], own["0.1"], own["0.25"], own["1"]] == [0.75, 0.75, 0.5, 0.25, 0]


def test_an_empty_table_has_no_partners(root, tmp_path):
    folder = tmp_path / "low_rank/figures"
    empty = pd.DataFrame({name: np.array([], dtype=object) for name in ("series", "scale")})
    artifacts.write_table(folder / "fig2_top_dufm_k10.parquet", empty, {"key": "k"})
    beside = published_beside_ours(root, tmp_path, ["low_rank"])
    assert len(beside) == 4 and (beside["runs"] == 0).all()


def test_a_figure_whose_runs_were_all_left_out_has_no_partners(root, tmp_path):
    """Its table has the columns that all have, and no other."""
    studies = make_plan(root, {"scale": "paper"}).studies
    for study, spec in studies.items():
        for figure in spec.figures:
            inputs = Inputs(study, figure, "desktop", "scaled", pd.DataFrame(), pd.DataFrame())
            empty = figure_table(lambda inputs: None, inputs, ["left_out"])
            artifacts.write_table(tmp_path / study / f"figures/{figure}.parquet", empty, {})
    beside = published_beside_ours(root, tmp_path, studies)
    assert len(beside) > 500 and (beside["runs"] == 0).all()


def test_every_partner_is_of_a_published_series(root):
    import re
    from fnmatch import fnmatch

    numbers = pd.concat(
        pd.read_csv(p, dtype=str) for p in (root / "config/published").glob("*.csv")
    )
    for partner in PARTNERS:
        assert any(
            fnmatch(figure, partner.figures)
            and re.fullmatch(partner.series, series)
            and re.fullmatch(partner.x, x)
            for figure, series, x in numbers[["figure", "series", "x"]].itertuples(index=False)
        ), partner
