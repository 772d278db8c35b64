"""What a teacher of another family reads, and which of its tokens are which of the student's."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from slime_search.core.drift import reconcile
from slime_search.core.trajectory import Owner, Trajectory
from slime_search.recipes.distillation.alignment import transfer
from slime_search.recipes.distillation.rendering import Rendered, TeacherView
from tests.support.chat_templates import FAMILIES
from tests.support.scripted_teacher import opinions
from tests.support.students import ASKED, TOOLS, Student, call
from tests.support.teacher_tokenizers import KINDS, MARKUP, save_kind


def view_of(student: Student, teacher: Any, **template_kwargs: Any) -> TeacherView:
    return TeacherView(
        teacher, template_kwargs, student_tokenizer=student.tokenizer, student_template=student.template, tools=TOOLS
    )


def given_to(rendered: Rendered) -> list[list[float | None]]:
    """What each of the student's tokens gets, turn by turn."""
    return [
        transfer(
            turn.student_sizes,
            turn.teacher_sizes,
            turn.runs,
            opinions(rendered.token_ids[: turn.start + len(turn.teacher_sizes)], turn.start),
        )
        for turn in rendered.turns
    ]


def text_of(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


TURNS = (
    f"<think>\nI look it up. 東京 é\n</think>\n\n{call('thing-7 maker')}<|im_end|>",
    "It was <answer>Zoë 🎉</answer><|im_end|>",
)


@pytest.fixture
def qwen3(kinds: dict[str, Any]) -> Student:
    return Student(kinds["byte-level"])


def test_before_itself_a_student_is_seen_as_it_is(qwen3: Student) -> None:
    segments = qwen3.talk(*TURNS)
    rendered = view_of(qwen3, qwen3.tokenizer).render(ASKED, segments)
    everything = qwen3.prompt_ids() + [i for segment in segments for i in segment.token_ids]
    assert rendered.token_ids == everything
    expected = []
    place = len(qwen3.prompt_ids())
    for segment in segments:
        place += len(segment.token_ids)
        if segment.owner is Owner.MODEL:
            expected.append(opinions(everything[:place], place - len(segment.token_ids)))
    assert given_to(rendered) == expected


@pytest.mark.parametrize("teacher", KINDS)
def test_another_vocabulary_gives_all_that_it_says(teacher: str, qwen3: Student, kinds: dict[str, Any]) -> None:
    """The same template and notation: every token gets something, and each turn the whole of the teacher's."""
    rendered = view_of(qwen3, kinds[teacher]).render(ASKED, qwen3.talk(*TURNS))
    for turn, given_ in zip(rendered.turns, given_to(rendered), strict=True):
        assert None not in given_
        end = turn.start + len(turn.teacher_sizes)
        told = opinions(rendered.token_ids[:end], turn.start)
        spoken = [log_prob for log_prob, size in zip(told, turn.teacher_sizes, strict=True) if size]
        assert math.fsum(v for v in given_ if v is not None) == pytest.approx(math.fsum(spoken))
    if teacher.startswith("byte-level"):
        plain = view_of(qwen3, kinds[teacher])
        expected = plain._template.prompt(ASKED) + TURNS[0] + plain._template.frame.opening
        expected += "Doc 1 says 0" + plain._template.frame.closing + TURNS[1]
        assert text_of(kinds[teacher], rendered.token_ids) == expected


@pytest.mark.parametrize("which", ["student", "teacher", "both"])
def test_markup_that_was_added_as_special_is_read_and_scored(which: str, tmp_path: Path, kinds: dict[str, Any]) -> None:
    special = AutoTokenizer.from_pretrained(save_kind(tmp_path, "byte-level", markup=(), special_markup=MARKUP))
    student = Student(special if which != "teacher" else kinds["byte-level"])
    teacher = special if which != "student" else kinds["byte-level, other cuts"]
    rendered = view_of(student, teacher).render(ASKED, student.talk(*TURNS))
    read = text_of(teacher, rendered.token_ids)
    assert all(turn in read for turn in TURNS)
    for token in ("<tool_call>", "</think>"):
        assert teacher.convert_tokens_to_ids(token) in rendered.token_ids
    assert all(None not in turn for turn in given_to(rendered))


words = st.one_of(
    st.sampled_from(
        ["東京", "é", "e\u0301", "🎉", " ", "\n", "thing maker", "<", "</answer>", "▁", "<|im_end|>", "<s>"]
    ),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
)


@pytest.mark.parametrize("teacher", KINDS)
@pytest.mark.parametrize("student", ["byte-level, NFC", "sentencepiece"])
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(words, max_size=8), st.lists(st.integers(0, 300), max_size=6), st.booleans())
def test_whatever_was_sampled_is_scored_soundly(
    student: str, teacher: str, kinds: dict[str, Any], pieces: list[str], strays: list[int], closed: bool
) -> None:
    """Random cuts, tokens of single bytes, control tokens in the middle, teachers' normalisers: never more than was
    said, never a number that is none, and no token of the prompt or the tools among those that are shared."""
    one = Student(kinds[student])
    ids = [i for piece in pieces for i in one.encode(piece)]
    for place, stray in enumerate(strays):
        ids.insert(place * 3 % (len(ids) + 1), stray)
    ids += one.encode(one.end) if closed else []
    first = one.says(ids)
    segments = [first, one.reads("Doc 1", after=first), *one.talk("Hamlet<|im_end|>")]
    view = _view(one, kinds[teacher], (student, teacher))
    rendered = view.render(ASKED, segments)
    control = {i for i, token in kinds[teacher].added_tokens_decoder.items() if token.special}
    for turn, given_ in zip(rendered.turns, given_to(rendered), strict=True):
        end = turn.start + len(turn.teacher_sizes)
        own = rendered.token_ids[turn.start : end]
        assert not control & set(own[:-1])
        told = opinions(rendered.token_ids[:end], turn.start)
        student_ids = segments[0 if turn is rendered.turns[0] else -1].token_ids
        mine = as_sized(view._student_bytes.of(student_ids), turn.student_sizes)
        theirs = as_sized(view._bytes.of(own), turn.teacher_sizes)
        assert all(mine[r.student :][: r.length] == theirs[r.teacher :][: r.length] for r in turn.runs)
        values = [value for value in given_ if value is not None]
        assert all(map(math.isfinite, values))
        assert math.fsum(values) >= math.fsum(told) - 1e-6
        assert all(size for size, value in zip(turn.student_sizes, given_, strict=True) if value is not None)


def as_sized(pieces: list[bytes], sizes: list[int]) -> bytes:
    """The bytes of tokens as far as they count: without a blank put before, and one for the end of a turn."""
    return b"".join((piece or b"\0")[-size:] if size else b"" for piece, size in zip(pieces, sizes, strict=True))


_views: dict[tuple[str, str], TeacherView] = {}


def _view(student: Student, teacher: Any, key: tuple[str, str]) -> TeacherView:
    return _views.setdefault(key, view_of(student, teacher))


def test_half_a_character_matches_nothing_and_the_rest_does(qwen3: Student, kinds: dict[str, Any]) -> None:
    """A turn that ran out of tokens inside a character of three bytes."""
    whole = qwen3.encode("in 漢字")
    segments = [qwen3.says(whole[:-1])]
    (given_,) = given_to(view_of(qwen3, kinds["sentencepiece"]).render(ASKED, segments))
    known = [value is not None for value in given_]
    assert known[0] and not known[-1]


def test_a_special_token_in_a_turn_is_not_shown(qwen3: Student, kinds: dict[str, Any]) -> None:
    ids = [*qwen3.encode("It is "), *qwen3.encode("<|im_start|>"), *qwen3.encode("Hamlet")]
    teacher = kinds["byte-level, other cuts"]
    rendered = view_of(qwen3, teacher).render(ASKED, [qwen3.says(ids)])
    (turn,), (given_,) = rendered.turns, given_to(rendered)
    assert text_of(teacher, rendered.token_ids[turn.start :]) == "It is Hamlet"
    assert [value is None for value in given_] == [i == qwen3.encode("<|im_start|>")[0] for i in ids]


def test_text_like_a_control_token_of_the_teacher_stays_text(qwen3: Student, tmp_path: Any) -> None:
    from transformers import AutoTokenizer

    teacher = AutoTokenizer.from_pretrained(save_kind(tmp_path, "byte-level", family="llama3"))
    rendered = view_of(qwen3, teacher).render(ASKED, [qwen3.says(qwen3.encode("a <|eot_id|> b"))])
    (turn,) = rendered.turns
    assert text_of(teacher, rendered.token_ids[turn.start :]) == "a <|eot_id|> b"
    assert teacher.eos_token_id not in rendered.token_ids[turn.start :]
    assert None not in given_to(rendered)[0]


@pytest.fixture(scope="module")
def of_families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A teacher of each family, with cuts of its own."""
    from transformers import AutoTokenizer

    folders = {name: tmp_path_factory.mktemp("teacher") for name in FAMILIES}
    kind = "byte-level, other cuts"
    return {name: AutoTokenizer.from_pretrained(save_kind(path, kind, family=name)) for name, path in folders.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_reads_the_conversation_in_its_own_template(
    name: str, qwen3: Student, of_families: dict[str, Any]
) -> None:
    view = view_of(qwen3, of_families[name])
    rendered = view.render(ASKED, qwen3.talk(*TURNS))
    text = text_of(of_families[name], rendered.token_ids)
    frame, template = view._template.frame, view._template
    assert text.startswith(template.prompt(ASKED))
    assert text.count(frame.opening + "Doc 1 says 0" + frame.closing) == 1
    assert text.endswith(f"It was <answer>Zoë 🎉</answer>{frame.turn_end}")
    assert template.call("search", {"query": "thing-7 maker"}) in text
    first, last = given_to(rendered)
    shares_end = frame.turn_end == "<|im_end|>"
    assert [value is None for value in last] == [False] * (len(last) - 1) + [not shares_end]
    if name != "llama3":
        assert None not in first[:-1]


def test_a_call_in_another_notation_teaches_its_words_alone(qwen3: Student, of_families: dict[str, Any]) -> None:
    teacher = of_families["llama3"]
    queries = ['thing "7"', "Zoë"]
    segments = qwen3.talk(f"I look it up.\n{call(queries)}<|im_end|>")
    rendered = view_of(qwen3, teacher).render(ASKED, segments)
    written = '{"name": "search", "parameters": {"query": ["thing \\"7\\"", "Zoë"]}}'
    (own,) = rendered.turns
    assert text_of(teacher, rendered.token_ids[own.start :]) == f"I look it up.\n{written}<|eot_id|>"
    (given_,) = given_to(rendered)
    pieces = [qwen3.tokenizer.decode([i]) for i in segments[0].token_ids]
    taught = "".join(piece for piece, value in zip(pieces, given_, strict=True) if value is not None)
    for word in ("I look it up.", "search", "thing", "Zo"):
        assert word in taught
    for mark in ("<tool_call>", "arguments", "</tool_call>", "<|im_end|>"):
        assert mark not in taught


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (call("a"), ["search", "a"]),
        ('<tool_call>\n{"arguments": {"query": "search engines"}, "name": "search"}\n</tool_call>', ["search"]),
    ],
)
def test_a_text_is_not_taken_for_one_that_it_is_part_of(
    written: str, words: list[str], qwen3: Student, of_families: dict[str, Any]
) -> None:
    """The letter in a key, the function's name in a query that comes before it."""
    segments = qwen3.talk(f"{written}<|im_end|>")
    (given_,) = given_to(view_of(qwen3, of_families["llama3"]).render(ASKED, segments))
    places, text = [], ""
    for token, value in zip(segments[0].token_ids, given_, strict=True):
        if value is not None:
            places.append(len(text))
        text += qwen3.tokenizer.decode([token])
    assert places == [text.index(f'"{word}"') + 1 for word in words]


def test_a_call_in_a_thought_that_is_not_closed_is_thought(qwen3: Student, of_families: dict[str, Any]) -> None:
    said = f"<think>\nI could write {call('thing-7')} and then"
    rendered = view_of(qwen3, of_families["llama3"]).render(ASKED, [qwen3.says(qwen3.encode(said))])
    (own,) = rendered.turns
    assert text_of(of_families["llama3"], rendered.token_ids[own.start :]) == said
    assert None not in given_to(rendered)[0]


def test_a_broken_call_in_another_notation_teaches_nothing(qwen3: Student, of_families: dict[str, Any]) -> None:
    segments = qwen3.talk('Hm.<tool_call>{"name": </tool_call><|im_end|>')
    (given_,) = given_to(view_of(qwen3, of_families["llama3"]).render(ASKED, segments))
    begun = len(qwen3.encode("Hm."))
    assert [value is None for value in given_] == [False] * begun + [True] * (len(given_) - begun)


@pytest.mark.parametrize("name", ["qwen3", "llama3"])
def test_a_turn_whose_end_an_engine_read_in_other_tokens_is_shown_whole(
    name: str, qwen3: Student, of_families: dict[str, Any]
) -> None:
    """Its last words are not trained on, and the teacher reads them before what came after."""
    turn = f"Hm. {call('thing-7 maker')}"
    tail, end = '"}}\n</tool_call>', qwen3.encode(qwen3.end)
    sampled = qwen3.encode(turn.removesuffix(tail)) + [i for letter in tail[:3] for i in qwen3.encode(letter)]
    said = qwen3.says([*sampled, *qwen3.encode(tail[3:]), *end])
    trajectory = Trajectory(qwen3.prompt_ids())
    trajectory.append(said)
    trajectory.append(qwen3.reads("Doc 1", after=said))
    rendered_ids = [*qwen3.prompt_ids(), *qwen3.encode(turn), *end, *trajectory.segments[1].token_ids]
    reconcile(trajectory, rendered_ids)
    assert trajectory.drift.lost_tokens > 1
    trajectory.append(qwen3.says([*qwen3.encode("Bob"), *end]))

    teacher = of_families[name]
    view = view_of(qwen3, teacher)
    rendered = view.render(ASKED, trajectory.segments)
    frame = view._template.frame
    shown = f"Hm. {view._template.call('search', {'query': 'thing-7 maker'})}{frame.turn_end}{frame.opening}Doc 1"
    assert shown in text_of(teacher, rendered.token_ids)
    kept, last = given_to(rendered)
    assert len(kept) == len(trajectory.segments[0].token_ids)
    taught = "".join(qwen3.tokenizer.decode([i]) for i, v in zip(said.token_ids, kept, strict=False) if v is not None)
    assert "Hm." in taught and "thing-7" in taught
    assert last[0] is not None


THINKING_PROMPT = "{%- if add_generation_prompt and think -%}{{- '<think>\n' -}}{%- endif -%}"


@pytest.mark.parametrize(
    ("student_opens", "teacher_opens", "turn", "shown"),
    [
        (False, False, "<think>\na\n</think>\n\nb", "<think>\na\n</think>\n\nb"),
        (True, True, "a\n</think>\n\nb", "a\n</think>\n\nb"),
        (True, False, "a\n</think>\n\nb", "<think>\na\n</think>\n\nb"),
        (False, True, "<think>\na\n</think>\n\nb", "a\n</think>\n\nb"),
        (False, True, "b", "\n</think>\n\nb"),
    ],
)
def test_a_thought_that_one_of_the_prompts_opens(
    student_opens: bool, teacher_opens: bool, turn: str, shown: str, kinds: dict[str, Any], tmp_path: Any
) -> None:
    from transformers import AutoTokenizer

    loaded = []
    for kind in ("byte-level", "byte-level, other cuts"):
        tokenizer = AutoTokenizer.from_pretrained(save_kind(tmp_path / kind, kind, family="qwen2.5"))
        tokenizer.chat_template += THINKING_PROMPT
        loaded.append(tokenizer)
    student = Student(loaded[0], think=student_opens)
    rendered = view_of(student, loaded[1], think=teacher_opens).render(ASKED, [student.says(student.encode(turn))])
    (own,), (given_,) = rendered.turns, given_to(rendered)
    assert text_of(loaded[1], rendered.token_ids[own.start :]) == shown
    known = "".join(loaded[0].decode([i]) for i, v in zip(student.encode(turn), given_, strict=True) if v is not None)
    assert known.lstrip("\n").removeprefix("</think>\n\n").endswith("b")
    assert ("<think>" in known) is (not student_opens and not teacher_opens and "<think>" in turn)
