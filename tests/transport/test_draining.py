"""A signal may come between any two lines of a request; the server ends once, and after the answer."""

import itertools
import sys
from types import FrameType
from typing import Any

from slime_search.transport import middleware as draining
from slime_search.transport.middleware import Drain
from slime_search.transport.unavailable import Draining


def serve_with_signal(line: int) -> tuple[list[str], bool]:
    """What happens, in order, when a drain begins before the ``line``-th line that draining.py runs for a request.

    The second result is False where it runs fewer.
    """
    drain, lines, events = Drain(), itertools.count(1), list[str]()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != draining.__file__:
            return None
        if event == "line" and next(lines) == line:
            sys.settrace(None)
            drain.begin(lambda: events.append("ended"))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with drain.request():
            events.append("answered")
    except Draining:
        events.append("refused")
    finally:
        sys.settrace(before)
    return events, drain.begun


def test_a_signal_at_any_line_ends_the_server_once_and_after_the_answer() -> None:
    histories = []
    for line in itertools.count(1):
        events, begun = serve_with_signal(line)
        if not begun:
            break
        histories.append(events)
    assert len(histories) > 5
    for events in histories:
        assert events in (["answered", "ended"], ["refused", "ended"], ["ended", "refused"])
    assert ["answered", "ended"] in histories


def test_a_drain_waits_for_the_last_of_several_requests() -> None:
    drain, ended = Drain(), list[bool]()
    with drain.request():
        with drain.request():
            drain.begin(lambda: ended.append(True))
        assert ended == []
    assert ended == [True]
