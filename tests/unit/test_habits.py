"""Version, licence and citation say the same in every file."""

import re
import tomllib

import yaml

from replica.settings.load import load_studies


def test_the_version_is_the_same_everywhere(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changes, re.MULTILINE)
    assert project["version"] == cited["version"] == newest[1]
    assert project["license"] == cited["license"] == "MIT"


def test_every_paper_is_cited_as_its_study_says(root):
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    found = {
        entry["identifiers"][0]["value"].removeprefix("arXiv:"): (
            entry["title"],
            [author["family-names"] for author in entry["authors"]],
        )
        for entry in cited
    }
    studies = [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in (root / "config/studies").glob("*.yaml")
    ]
    assert found == {s["arxiv"]: (s["title"], s["authors"].split(", ")) for s in studies}


def test_embedded_data_have_their_licences(root):
    words = (root / "LICENSES/README.md").read_text(encoding="utf-8")
    files = sorted(path.name for path in (root / "workflow/replica/data/embedded").iterdir())
    assert files and all(f"`{name}`" in words for name in files)
    for name in re.findall(r"\]\(([\w.-]+\.txt)\)", words):
        assert (root / "LICENSES" / name).exists()


def test_the_picture_of_the_architecture_is_that_of_the_imports(root):
    """Each layer of the contract is a box, in this order, and every module is in one of them."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    layers = [
        [name.strip().removeprefix("replica.") for name in layer.split("|")]
        for layer in contract["layers"]
    ]
    picture = (root / "docs/design.md").read_text(encoding="utf-8")
    picture = picture.partition("```mermaid")[2].partition("```")[0]
    assert [box.split(", ") for box in re.findall(r'L\d+\["(.+?)"\]', picture)] == layers
    assert " --> ".join(f"L{i}" for i in range(len(layers))) in picture
    there = {
        path.stem
        for path in (root / "workflow/replica").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert there - {"__init__"} == {name for layer in layers for name in layer}


def test_the_readme_counts_figures_and_claims_as_the_studies_have_them(root):
    """At the laptop scale; the figures that are off by default are those of no default scale."""
    table = (root / "README.md").read_text(encoding="utf-8")
    for name, study in load_studies(root / "config/studies").items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| [`{name}`](docs/")]
        *_, figures, claims, _ = [cell.strip() for cell in row.split("|")]
        made = sum(not study.why_off(figure, "laptop") for figure in study.figures)
        counts = [int(number) for number in re.findall(r"\d+", figures)]
        assert counts == [made, *([off] if (off := len(study.figures) - made) else [])], name
        proofs = sum(claim.rests_on == "proof" for claim in study.claims.values())
        assert claims == f"{proofs}, {len(study.claims) - proofs}", name
