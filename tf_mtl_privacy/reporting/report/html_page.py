"""A report as one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import functools
import io

from tf_mtl_privacy.reporting.report.document import Report


def report_html(report: Report) -> str:
    """The page: pictures are in it, styles too; it has no script and asks no network."""
    template, style = _template()
    sizes = {picture.name: _size(picture.png) for picture in report.pictures}
    return str(template.render(report=report, style=style, sizes=sizes))


@functools.cache
def _template():  # type: ignore[no-untyped-def]
    """(the template, the style sheet), both out of the package."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_mtl_privacy.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    assert environment.loader is not None
    source, *_ = environment.loader.get_source(environment, "report.css")
    # Our own file: the only text that goes into the page as it is.
    return environment.get_template("report.html"), markupsafe.Markup(source)


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, so that the page does not jump while it loads."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return picture.size
