"""What `mkdocs build` adds to the pages of this folder: see mkdocs.yml.

The front page is the README; the notebook and CONTRIBUTING.md are pages too. The gallery shows the
drawings that `make docs` has made of the evidence, in `.gallery/<scale>/<study>/figures`.
"""

import json
import os
import re
from html import escape
from pathlib import Path

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DRAWN = ROOT / ".gallery"
# Files of the project that are pages of the site as well, by their address there.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "config/README.md": "settings.md",
    "docs/read_a_figure.ipynb": "read_a_figure.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files, and the drawings of the gallery."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = as_page(json.loads(text)) if source.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=inside(text, ROOT / source)))
    for path in drawings():
        name = f"drawn/{path.relative_to(DRAWN).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, "gallery.md", content=gallery()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of a page to files that are not on the site become plain words."""
    if page.file.generated_by:
        return markdown
    return inside(markdown, Path(page.file.abs_src_path))


def inside(text: str, source: Path) -> str:
    """The text of a file, in which links lead to pages of the site, or are words without a link.

    Args:
        text: Markdown.
        source: the file that holds it, from whose folder its links start.
    """
    docs = ROOT / "docs"
    # Where the page stands on the site.
    home = source.parent if source.is_relative_to(docs) else docs

    def rewritten(found: re.Match[str]) -> str:
        image, words, target, anchor = found.groups()
        if ":" in target:
            return found[0]
        path = (source.parent / target).resolve()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        if not path.exists():
            # The build says so.
            return found[0]
        place = docs / PAGES[name] if name in PAGES else path
        if not place.is_relative_to(docs):
            return words
        return f"{image}[{words}]({os.path.relpath(place, home)}{anchor or ''})"

    return LINK.sub(rewritten, text)


def as_page(notebook: dict) -> str:
    """A notebook as Markdown."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    return "\n\n".join(
        f"```python\n{text}\n```" if kind == "code" else text for kind, text in cells
    )


def drawings() -> list[Path]:
    """The drawings of the evidence."""
    return sorted(DRAWN.glob("*/*/figures/*.svg"))


def gallery() -> str:
    """The page of all drawings: by scale and study, each with its title and a link to it."""
    lines = [
        "# Gallery",
        "",
        "Every figure of the [evidence](evidence/README.md), drawn again from its table when this "
        "site was built. A click opens the drawing.",
    ]
    if not drawings():
        lines += ["", "Nothing is drawn yet: `make docs` draws first."]
    for folder in sorted({path.parents[1] for path in drawings()}, key=_order):
        study = yaml.safe_load((ROOT / f"config/studies/{folder.name}.yaml").read_text("utf-8"))
        lines += [
            "",
            f"## {folder.name}, {folder.parent.name}",
            "",
            f"[{study['title']}]({folder.name}.md)",
            "",
            '<div class="gallery">',
        ]
        made = [name for name in study["figures"] if (folder / f"figures/{name}.svg").exists()]
        for name in made:
            address = f"drawn/{folder.parent.name}/{folder.name}/figures/{name}.svg"
            title = escape(study["figures"][name]["title"])
            lines.append(
                f'<figure><a href="{address}">'
                f'<img src="{address}" alt="{title}" loading="lazy"></a>'
                f"<figcaption>{title}</figcaption></figure>"
            )
        lines.append("</div>")
    return "\n".join(lines)


def _order(folder: Path) -> tuple[str, bool]:
    """By study; the laptop scale, which all of them have, first."""
    return folder.name, folder.parent.name != "laptop"
