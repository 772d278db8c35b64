"""Whatever an engine renders, the record holds what it conditioned on, and trains each token there at most once."""

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.core.dialect import Observation, ToolCall
from slime_search.core.drift import REALIGNED_TOKENS, reconcile
from slime_search.core.engine import Completion, Finish
from slime_search.core.tool import ToolResult
from slime_search.core.trajectory import Drift, Ending, Owner, Trajectory
from slime_search.core.trajectory_record import from_record, to_record

Sampled = tuple[tuple[int, ...], int, float]
"""The context that a token was sampled after, the token, its log-probability."""


class Recorded:
    """A trajectory, and beside it what the engine knows of every token that it sampled."""

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        self.trajectory = Trajectory(prompt_ids)
        self.sampled: list[Sampled] = []
        self._log_probs = count(1)

    def speak(self, prompt_ids: Sequence[int], ids: Sequence[int], finish: Finish = Finish.STOP) -> None:
        reconcile(self.trajectory, prompt_ids)
        assert self.trajectory.token_ids == list(prompt_ids)
        log_probs = [-float(next(self._log_probs)) for _ in ids]
        context = list(prompt_ids)
        for token, log_prob in zip(ids, log_probs, strict=True):
            self.sampled.append((tuple(context), token, log_prob))
            context.append(token)
        self.trajectory.add_completion(Completion(list(ids), log_probs, finish), "said")
        assert self.trajectory.token_ids == context

    def observe(self, ids: Sequence[int]) -> None:
        self.trajectory.add_calls([ToolCall("search", "q")], [ToolResult(("x",))], [0.5])
        self.trajectory.add_observation(Observation("seen", list(ids), ("seen",)))

    def trained(self) -> list[Sampled]:
        """What the parts' arrays say was sampled: tokens of mask 1, each with what stands before it."""
        found = []
        for part in self.trajectory.parts():
            assert part.log_probs is not None
            start = len(part.prompt_ids)
            for at, (mask, log_prob) in enumerate(zip(part.loss_mask, part.log_probs, strict=True), start):
                if mask:
                    found.append((tuple(part.token_ids[:at]), part.token_ids[at], log_prob))
                else:
                    assert log_prob == 0.0
        return found

    def check(self) -> None:
        trained = self.trained()
        assert len({log_prob for *_, log_prob in trained}) == len(trained), "a token is trained twice"
        assert set(trained) <= set(self.sampled), "a token is trained where it was not sampled"
        given_up = len(self.sampled) - len(trained)
        assert given_up == self.trajectory.drift.lost_tokens


tokens = st.integers(0, 3)


@st.composite
def conversations(draw: st.DrawFn) -> Recorded:
    """Turns of an engine that renders the conversation as it likes: unchanged, with an edit anywhere, or anew."""
    recorded = Recorded(draw(st.lists(tokens, min_size=1, max_size=6)))
    for _ in range(draw(st.integers(1, 5))):
        held = recorded.trajectory.token_ids
        at = draw(st.integers(0, len(held)))
        edit = draw(st.lists(tokens, max_size=4))
        removed = draw(st.integers(0, len(held) - at))
        prompt_ids = draw(
            st.sampled_from([held, held, held[:at] + edit + held[at + removed :]]) | st.lists(tokens, max_size=8)
        )
        if draw(st.integers(0, 4)) == 0:
            recorded.speak(prompt_ids, draw(st.lists(tokens, max_size=5)), Finish.ABORT)
            continue
        recorded.speak(prompt_ids, draw(st.lists(tokens, max_size=40)))
        recorded.observe(draw(st.lists(tokens, max_size=5)))
    return recorded


@given(conversations())
def test_every_sampled_token_is_trained_once_at_most_and_only_after_what_it_was_sampled_after(
    recorded: Recorded,
) -> None:
    recorded.check()


@given(conversations())
def test_the_parts_together_tell_the_whole_story(recorded: Recorded) -> None:
    whole = recorded.trajectory
    whole.end(Ending.ANSWERED, answer="Hamlet")
    parts = whole.parts()
    assert len(parts) == whole.drift.forked + 1
    again = Trajectory.join([from_record(to_record(p), p.token_ids, p.log_probs) for p in parts])
    assert to_record(again) == to_record(whole)
    assert [s.token_ids for s in again.segments] == [s.token_ids for s in whole.segments]
    assert (again.token_ids, again.loss_mask, again.log_probs) == (whole.token_ids, whole.loss_mask, whole.log_probs)
    assert [p.token_ids for p in again.parts()] == [p.token_ids for p in parts]
    assert list(again.turns()) == list(whole.turns())
    assert again.is_forked == whole.is_forked


PROMPT = [100, 101]
TURN = list(range(200, 240))
SEEN = [300, 301, 302]


def after_one_turn() -> Recorded:
    recorded = Recorded(PROMPT)
    recorded.speak(PROMPT, TURN)
    recorded.observe(SEEN)
    return recorded


@pytest.mark.parametrize("lost", range(REALIGNED_TOKENS + 1))
def test_a_difference_near_the_end_of_the_turn_is_realigned(lost: int) -> None:
    recorded = after_one_turn()
    kept = TURN[: len(TURN) - lost]
    recorded.speak([*PROMPT, *kept, 7, 8, 9], [250, 251])
    trajectory = recorded.trajectory
    assert (trajectory.drift.realigned, trajectory.drift.forked, trajectory.drift.lost_tokens) == (1, 0, lost)
    assert not trajectory.is_forked
    assert trajectory.response_ids == [*kept, 7, 8, 9, 250, 251]
    assert trajectory.loss_mask == [1] * len(kept) + [0, 0, 0, 1, 1]
    assert [s.owner for s in trajectory.segments] == [Owner.MODEL, Owner.WORLD, Owner.MODEL]
    assert trajectory.segments[1].results == ("seen",)
    recorded.check()


FORKED = {
    "one token too many": [*PROMPT, *TURN[: len(TURN) - REALIGNED_TOKENS - 1], 7],
    "inside the prompt": [100, 7, *TURN, *SEEN],
    "before the first sampled token": [*PROMPT, 7, *TURN, *SEEN],
    "nothing in common": [7],
}


@pytest.mark.parametrize("prompt_ids", FORKED.values(), ids=FORKED)
def test_a_difference_further_back_is_forked(prompt_ids: list[int]) -> None:
    recorded = after_one_turn()
    recorded.speak(prompt_ids, [250, 251])
    trajectory = recorded.trajectory
    assert (trajectory.drift.realigned, trajectory.drift.forked, trajectory.drift.lost_tokens) == (0, 1, 0)
    first, second = trajectory.parts()
    assert first.token_ids == [*PROMPT, *TURN, *SEEN] and first.loss_mask == [1] * len(TURN) + [0] * len(SEEN)
    assert (second.prompt_ids, second.response_ids, second.loss_mask) == (prompt_ids, [250, 251], [1, 1])
    recorded.check()


def test_a_short_turn_of_which_nothing_is_left_is_forked() -> None:
    recorded = Recorded(PROMPT)
    recorded.speak(PROMPT, [200, 201])
    recorded.observe(SEEN)
    recorded.speak([*PROMPT, 7, *SEEN], [250])
    assert (recorded.trajectory.drift.forked, recorded.trajectory.drift.lost_tokens) == (1, 0)
    recorded.check()


def test_a_difference_before_the_last_turn_is_forked_however_small() -> None:
    recorded = after_one_turn()
    recorded.speak([*PROMPT, *TURN, *SEEN], [250])
    recorded.observe([303])
    recorded.speak([*PROMPT, *TURN, 7, *SEEN[1:], 250, 303], [251])
    assert recorded.trajectory.drift.forked == 1
    recorded.check()


def test_the_rendering_that_is_held_changes_nothing() -> None:
    recorded = after_one_turn()
    recorded.speak([*PROMPT, *TURN, *SEEN], [250])
    assert recorded.trajectory.drift == Drift()


def test_a_first_prompt_of_the_engines_own_is_taken_over() -> None:
    recorded = Recorded(PROMPT)
    recorded.speak([7, 8, 9], [250])
    trajectory = recorded.trajectory
    assert (trajectory.prompt_ids, trajectory.drift.forked) == ([7, 8, 9], 0)
    assert trajectory.parts() == [trajectory]
    recorded.check()


def test_an_interrupted_turn_is_begun_anew() -> None:
    recorded = after_one_turn()
    recorded.speak([*PROMPT, *TURN, *SEEN], [250, 251], Finish.ABORT)
    recorded.speak([*PROMPT, *TURN, *SEEN], [252])
    trajectory = recorded.trajectory
    assert trajectory.response_ids == [*TURN, *SEEN, 252]
    assert (trajectory.drift.lost_tokens, trajectory.drift.realigned) == (2, 0)
    recorded.check()


def test_calls_go_to_the_part_of_their_turn_even_when_their_results_found_no_room() -> None:
    recorded = after_one_turn()
    recorded.speak([7], [250])
    recorded.observe([303])
    recorded.speak([7, 250, 303], [251])
    recorded.trajectory.add_calls([ToolCall("search", "last")], [ToolResult(("x",))], [0.5])
    recorded.trajectory.end(Ending.TRUNCATED)
    first, second = recorded.trajectory.parts()
    assert [c.query for c in first.calls] == ["q"]
    assert [c.query for c in second.calls] == ["q", "last"]
    assert [c.query for c in Trajectory.join([first, second]).calls] == ["q", "q", "last"]
    assert (first.answer, first.ending, second.ending) == (None, None, Ending.TRUNCATED)


def test_a_turn_without_log_probabilities_is_realigned_too() -> None:
    trajectory = Trajectory(PROMPT)
    trajectory.add_completion(Completion(TURN, None, Finish.STOP), "said")
    trajectory.add_observation(Observation("seen", SEEN))
    reconcile(trajectory, [*PROMPT, *TURN[:-1], 7])
    assert trajectory.token_ids == [*PROMPT, *TURN[:-1], 7]
    assert trajectory.segments[0].log_probs is None and trajectory.log_probs is None
