"""Jinja templates of pages, cards and reports: files in a package's folder `templates`."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def templates(package: str, *, escape_html: bool) -> Environment:
    """The templates of a package; an unknown name in one is an error."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=escape_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["zip"] = zip
    made.filters["md"] = markdown_text
    return made


def markdown_text(value: object) -> str:
    """One line of text that ends no cell of a Markdown table."""
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|")
