"""The learning curves of a run, where its folder holds metrics."""

import base64
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slime_search.errors import DataError


def draw_curves(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """An image of the metrics, PNG or SVG.

    Raises:
        DataError: nothing of them can be drawn.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise DataError("curves: matplotlib not installed. Run: pip install 'slime-search[local]'")
    from slime_search.report.curve import curve_svg

    return curve_svg(rows, title="Learning curve")


def curves_uri(metrics: Path) -> str:
    """The image as a data URI.

    Raises:
        DataError: a row is not JSON, or nothing can be drawn.
    """
    rows = []
    for number, line in enumerate(metrics.read_text().splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(f"{metrics}, line {number}: not JSON ({error})") from None
    image = draw_curves(rows)
    kind = "png" if image.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
