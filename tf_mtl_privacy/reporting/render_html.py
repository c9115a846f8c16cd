"""Renders a report as one HTML file without scripts or external resources."""

from __future__ import annotations

import base64
import functools
import io
import re

from tf_mtl_privacy.reporting.document import Report


def report_html(report: Report) -> str:
    """The page, with its pictures and styles inside."""
    template, style = _template()
    sizes = {picture.name: _size(picture.png) for picture in report.pictures}
    return str(template.render(report=report, style=style, sizes=sizes))


@functools.cache
def _template():  # type: ignore[no-untyped-def]
    """(the template, the style sheet), both from the package."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_mtl_privacy.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.finalize = lambda value: _unbroken(value) if type(value) is str else value
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    assert environment.loader is not None
    source, *_ = environment.loader.get_source(environment, "report.css")
    # The package's own file: the only text that goes into the page without escaping.
    return environment.get_template("report.html"), markupsafe.Markup(source)


def _unbroken(text: str) -> str:
    """Keeps a unit with its number, and 1e-05 in one piece."""
    spaced = re.sub(r"(?<=\d) (?=(?:%|dB|s|min|h)\b|%)", "\u00a0", text)
    return re.sub(r"(?<=\de-)(?=\d)", "\u2060", spaced)


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, so that the page does not jump while it loads."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return picture.size
