"""The curves of a run, where its folder holds metrics."""

import base64
import importlib.util
import threading
from pathlib import Path

from slime_search.errors import DataError

_DRAWING = threading.Lock()
"""matplotlib's settings are the process's, and each request has its own thread."""


def curves_uris(metrics: Path) -> tuple[str, str]:
    """Two images as data URIs, for a light page and for a dark one.

    Raises:
        DataError: a row is not JSON, nothing can be drawn, or matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise DataError("curves: matplotlib not installed. Run: pip install 'slime-search[curves]'")
    from slime_search.curves.sources import read_metrics
    from slime_search.report.panels import draw_panels

    runs = {metrics.parent.resolve().name: read_metrics(metrics)}
    with _DRAWING:
        light, dark = (draw_panels(runs, title="Over the steps", kind="svg", dark=dark) for dark in (False, True))
    return _uri(light), _uri(dark)


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
