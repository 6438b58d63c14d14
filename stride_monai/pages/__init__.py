"""What every page begins with (head, base styles, the bar of the disclaimer), and how its template is read."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined, Template

__all__ = ["template"]


@cache
def template(package: str, name: str) -> Template:
    """A template of a package; every text in it is escaped.

    It may import the macros of ``head.html``: ``head(title, size, scripts)`` and ``disclaimer(text, foot)``.
    """
    sources = {
        "head.html": files("stride_monai.pages").joinpath("head.html").read_text(encoding="utf-8"),
        name: files(package).joinpath(name).read_text(encoding="utf-8"),
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=DictLoader(sources)
    )
    return environment.get_template(name)
