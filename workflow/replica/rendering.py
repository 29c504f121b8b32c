"""Pages of HTML from the templates in `templates`; all text that they are given is escaped."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).with_name("templates")


@cache
def _environment() -> "jinja2.Environment":
    # Imported here: the check of a GPU makes no pages, and does without.
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **says: Any) -> str:
    """A page, with style and scripts within it.

    Raises:
        jinja2.UndefinedError: the template needs more than it is given.
    """
    return _environment().get_template(template).render(says)


def sources(*templates: str) -> dict[str, str]:
    """The text of templates and of all that they include, for the keys of what they make."""
    from jinja2 import meta

    found: dict[str, str] = {}
    ahead = list(templates)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found[name] = (FOLDER / name).read_text(encoding="utf-8")
            ahead += filter(None, meta.find_referenced_templates(_environment().parse(found[name])))
    return dict(sorted(found.items()))
