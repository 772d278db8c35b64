"""Tool results in a chat template's frame: the text and the token ids to append after a turn that called."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from slime_search.core.dialect import Observation
from slime_search.core.tokens import TokenCodec
from slime_search.dialects.chat_frame import LAST_ID, LAST_NAME, NEXT_ID, NEXT_NAME, ChatFrame
from slime_search.dialects.cutting import fit_blocks

JOINT = "\n\n"
"""Between the results of one list of queries."""
_LONGEST_END = 4
"""Tokens that end a turn and are sampled, at most."""
_SAFE_HEADER = re.compile(r"[\w.:-]{1,80}")


@dataclass(frozen=True, slots=True)
class Answered:
    """What answers one call: the blocks of its result, and the name and id of the call for the result's header.

    ``joins_last`` puts it into one message with the result before.
    """

    blocks: tuple[str, ...]
    name: str = ""
    call_id: str = ""
    joins_last: bool = False


def append_results(
    codec: TokenCodec,
    frame: ChatFrame,
    answers: Sequence[Answered],
    turn_ids: Sequence[int],
    max_tokens: int | None = None,
) -> Observation | None:
    """The results one after the other, each with an equal share of the room; None when not even the frame fits.

    The frame takes effect and the results are untrusted. Where they meet, the ids are those that the tokenizer gives
    the whole, as if the template had rendered it.
    """
    texts = _frame_texts(frame, answers)
    split = [codec.split_at_controls(text) for text in texts]
    # What stands before the first control token belongs to the result before it, what stands after the last to the
    # next. Before the first result there is none, and nothing comes after the last one.
    first_head, first_ids, first_tail = split[0]
    opening_ids = [*codec.trusted(first_head), *first_ids] if first_ids else []
    sampled, sampled_text = _sampled_already(codec, frame, opening_ids, turn_ids)
    del opening_ids[:sampled]
    befores = [first_tail if first_ids else first_head, *(tail for _, _, tail in split[1:-1])]
    afters = [head for head, _, _ in split[1:]]
    controls = [ids for _, ids, _ in split[1:]]
    closing_tail = codec.between(split[-1][2], "", "")
    share, seams = None, [0] * len(answers)
    if max_tokens is not None:
        seams = [len(codec.between(before, "", after)) for before, after in zip(befores, afters, strict=True)]
        fixed = len(opening_ids) + sum(map(len, controls)) + len(closing_tail)
        share = max_tokens - fixed - sum(seams)
        if share < 0:
            return None

    text, ids = texts[0].removeprefix(sampled_text), opening_ids
    results: list[str] = []
    for n, answer in enumerate(answers):
        room = None if share is None else share // len(answers) + seams[n]
        body = _body(codec, frame, answer.blocks, room, befores[n], afters[n])
        text += _shown(frame, body.text) + texts[n + 1]
        ids += [*body.token_ids, *controls[n]]
        if answer.joins_last:
            results[-1] = JOINT.join((results[-1], body.text))
        else:
            results.append(body.text)
    return Observation(text, ids + closing_tail, tuple(results))


def _body(
    codec: TokenCodec, frame: ChatFrame, blocks: Sequence[str], room: int | None, before: str, after: str
) -> Observation:
    if not frame.as_json:
        return fit_blocks(codec.between, blocks, room, before=before, after=after)

    def quoted(before: str, text: str, after: str) -> list[int]:
        return codec.between(before, in_json(text), after)

    return fit_blocks(quoted, blocks, room, before=before, after=after)


def _frame_texts(frame: ChatFrame, answers: Sequence[Answered]) -> list[str]:
    """What stands before, between and after the results, with the names and ids of their calls."""
    joint = in_json(JOINT) if frame.as_json else JOINT
    texts = [frame.call_end + frame.opening]
    texts += [joint if answer.joins_last else frame.between for answer in answers[1:]]
    texts.append(frame.closing)
    if not frame.has_slots:
        return texts
    headers = [
        (_safe(answer.name), _safe(answer.call_id) or f"functions.{answer.name}:{n}")
        for n, answer in enumerate(answers)
    ]
    around = zip(texts, [headers[0], *headers], [*headers, headers[-1]], strict=True)
    return [_filled(text, last, following) for text, last, following in around]


def _filled(text: str, last: tuple[str, str], following: tuple[str, str]) -> str:
    slots = (LAST_NAME, last[0]), (LAST_ID, last[1]), (NEXT_NAME, following[0]), (NEXT_ID, following[1])
    for slot, value in slots:
        text = text.replace(slot, value)
    return text


def _safe(header: str) -> str:
    """A name or id as the model wrote it, where it can't be markup."""
    return header if _SAFE_HEADER.fullmatch(header) else ""


def _sampled_already(
    codec: TokenCodec, frame: ChatFrame, opening_ids: Sequence[int], turn_ids: Sequence[int]
) -> tuple[int, str]:
    """How many of the opening's leading ids the turn sampled itself, or another end in their place, and their text."""
    end = codec.trusted(frame.call_end)
    tail = list(turn_ids[-_LONGEST_END:])
    for length in range(min(len(tail), len(opening_ids)), 0, -1):
        if tail[-length:] == opening_ids[:length]:
            if length == len(end):
                return length, frame.call_end
            return length, codec.tokenizer.decode(list(opening_ids[:length]), skip_special_tokens=False)
    if tail and any(tail[-1:] == codec.trusted(other) for other in frame.ends):
        return len(end), frame.call_end
    return 0, ""


def _shown(frame: ChatFrame, text: str) -> str:
    return in_json(text) if frame.as_json else text


def in_json(text: str) -> str:
    """``text`` as it stands between the quotes of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
