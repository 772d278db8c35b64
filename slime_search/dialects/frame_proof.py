"""Shows that what is appended to a conversation is what its chat template renders, token by token."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from slime_search.core.call_markup import RESULT_CLOSE, RESULT_OPEN, call_block
from slime_search.core.tokens import TokenCodec
from slime_search.dialects.appending import Answered, append_results
from slime_search.dialects.chat_frame import OPENED_THOUGHT, Message
from slime_search.errors import ConfigError

if TYPE_CHECKING:
    from slime_search.dialects.chat_frame import ChatTemplate

_ASKED: Message = {"role": "user", "content": "Who wrote the landmark?"}
_PASSAGE = 'Doc 1(Title: "Landmark") It stands on a hill.\n' + "\n".join(
    f"Line {n} of what is known of it." for n in range(24)
)
_RESULTS = (_PASSAGE, "Doc 2(Title: Naïve) Nobody did!")
"""One of several lines and as long as a passage: a template may cut what is long, or take line ends out."""
_IDS = "provenid1", "provenid2", "provenid3"
_SHOWN = 8
"""Tokens told of each side where they part."""

_CONVERSATIONS = {"one call": (1,), "two calls": (2,), "two rounds": (1, 1)}
"""Calls in each turn."""


def prove(template: "ChatTemplate") -> None:
    """Appends results to three short conversations and compares with what the template renders.

    Templates write what they like around a second result, or in a second round, so it has to be tried.

    Raises:
        ConfigError: they part; it says where.
    """
    codec = TokenCodec(template.tokenizer)
    for name, rounds in _CONVERSATIONS.items():
        if template.renders_two_calls or 2 not in rounds:
            _prove_one(template, codec, name, rounds)


def _prove_one(template: "ChatTemplate", codec: TokenCodec, name: str, rounds: Sequence[int]) -> None:
    frame = template.frame
    messages: list[Message] = [_ASKED]
    answers: list[list[Answered]] = []
    landmarks: list[str] = []
    for number, calls in enumerate(rounds):
        ids = _IDS[number : number + calls]
        written = [("search", {"query": f"landmark {call_id}"}, call_id) for call_id in ids]
        said = "" if frame.tool_role and template.renders_calls else f"It is turn {number}."
        results = _RESULTS[:calls]
        if frame.tool_role:
            messages.append(template.called(written, said))
            messages += [
                {"role": "tool", "name": "search", "tool_call_id": call_id, "content": result}
                for call_id, result in zip(ids, results, strict=True)
            ]
        else:
            said += "".join(call_block({"name": call[0], "arguments": call[1]}) for call in written)
            messages.append({"role": "assistant", "content": said})
            content = "\n".join(f"{RESULT_OPEN}\n{result}\n{RESULT_CLOSE}" for result in results)
            messages.append({"role": "user", "content": content})
        landmarks.append(f"landmark {ids[-1]}" if template.renders_calls else said)
        answers.append([Answered((result,), "search", call_id) for call_id, result in zip(ids, results, strict=True)])
    rendered = template.render(messages, generate=True)
    expected = codec.prompt(rendered)
    position = 0
    for number, (answered, landmark) in enumerate(zip(answers, landmarks, strict=True)):
        position = rendered.find(frame.call_end, rendered.find(landmark, position) + len(landmark)) + len(
            frame.call_end
        )
        held = codec.prompt(rendered[:position])
        # What the template writes where the model speaks next is not all there once it has spoken.
        is_last = number == len(answers) - 1
        shown = frame if is_last else replace(frame, closing=OPENED_THOUGHT.sub("", frame.closing, count=1))
        appended = append_results(codec, shown, answered, held)
        assert appended is not None
        ours = [*held, *appended.token_ids]
        theirs = expected if is_last else expected[: len(ours)]
        if ours != theirs:
            raise _parting(codec, f"{name}, turn {number + 1}", ours, theirs)


def _parting(codec: TokenCodec, where: str, ours: Sequence[int], theirs: Sequence[int]) -> ConfigError:
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False)))

    def read(ids: Sequence[int]) -> str:
        text: str = codec.tokenizer.decode(list(ids), skip_special_tokens=False)
        return repr(text)

    before = read(theirs[max(same - _SHOWN, 0) : same])
    return ConfigError(
        f"chat template: in a conversation of {where}, after {before}, it renders {read(theirs[same : same + _SHOWN])} "
        f"where {read(ours[same : same + _SHOWN])} would be appended (token {same}), so a policy would be trained on "
        "other tokens than it is served with. Use another template, or the tag recipe, which has none between turns."
    )
