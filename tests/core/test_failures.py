"""When too many trajectories die of a service, the run stops and says of which."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.failures import FailureMonitor
from slime_search.core.trajectory import Trajectory
from slime_search.errors import ServiceUnavailable, TooManyFailures


def outcome(service: str | None) -> Trajectory:
    trajectory = Trajectory([0])
    if service:
        trajectory.fail(ServiceUnavailable(service, f"http://{service}", "down"))
    return trajectory


@given(
    outcomes=st.lists(st.booleans(), max_size=40),
    window=st.integers(1, 8),
    max_share=st.sampled_from([0.0, 0.25, 0.5, 0.99, 1.0]),
)
def test_it_stops_at_the_first_window_with_too_many_failures(
    outcomes: list[bool], window: int, max_share: float
) -> None:
    monitor = FailureMonitor(window=window, max_share=max_share)
    for position, failed in enumerate(outcomes):
        recent = outcomes[max(0, position + 1 - window) : position + 1]
        if failed and sum(recent) > max_share * window:
            with pytest.raises(TooManyFailures):
                monitor.observe(outcome("retriever"))
            return
        monitor.observe(outcome("retriever" if failed else None))


def test_the_message_names_the_service_the_last_error_and_the_setting() -> None:
    monitor = FailureMonitor(window=4, max_share=0.5)
    for service in (None, "engine", "retriever"):
        monitor.observe(outcome(service))
    with pytest.raises(TooManyFailures) as caught:
        monitor.observe(outcome("retriever"))
    message = str(caught.value)
    assert "3 of the last 4 trajectories failed, 2 of them because of the retriever" in message
    assert "retriever at http://retriever: down" in message
    assert "max_failure_share" in message


def test_each_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="slime_search.core.failures")
    monitor = FailureMonitor(window=4, max_share=1.0)
    for service in (None, "retriever"):
        monitor.observe(outcome(service))
    assert [record.getMessage() for record in caplog.records] == [
        "trajectory without training signal: retriever at http://retriever: down"
    ]
