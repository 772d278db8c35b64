"""The teacher's client over real HTTP: three ways to ask, batches, faults, and what is remembered."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from transformers import AutoTokenizer

from slime_search.errors import ConfigError, ProtocolError, ServiceRejected, ServiceUnavailable, SlimeSearchError
from slime_search.recipes.distillation.config import TeacherConfig
from slime_search.recipes.distillation.probing import probe_of
from slime_search.recipes.distillation.prompt_log_probs import Span
from slime_search.recipes.distillation.teacher import Teacher
from slime_search.transport.client import close_sessions
from tests.support.loopback import edited, status, truncated, until
from tests.support.scripted_teacher import ScriptedTeacher, Style, opinions
from tests.support.teacher_tokenizers import save_kind

T = TypeVar("T")
STYLES: tuple[Style, ...] = ("sglang", "vllm", "echo")
IDS = list(range(300, 340))


@pytest.fixture
def tokenizer(kinds: dict[str, Any]) -> Any:
    return kinds["byte-level"]


def run(work: Callable[[], Awaitable[T]]) -> T:
    async def whole() -> T:
        try:
            return await work()
        finally:
            await close_sessions()

    return asyncio.run(whole())


def teacher_of(tokenizer: Any, *servers: ScriptedTeacher, **config: Any) -> Teacher:
    return Teacher(TeacherConfig(**{"url": tuple(s.url for s in servers), "attempts": 2, **config}), tokenizer)


@pytest.mark.parametrize("style", STYLES)
def test_every_way_gives_the_span_and_nothing_else(style: Style, tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer, style=style) as server:
        teacher = teacher_of(tokenizer, server, cache_tokens=0)
        for start in (1, 7, len(IDS) - 1):
            scored = run(lambda start=start: teacher.log_probs(Span(IDS, start)))
            assert scored == (opinions(IDS, start), 0)
        named = {body.get("model") for body in server.requests[-3:]}
    assert named == ({None} if style == "sglang" else {"the-teacher"})


@pytest.mark.parametrize("style", STYLES)
def test_only_what_waits_goes_together(style: Style, tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer, style=style) as server:
        teacher = teacher_of(tokenizer, server, concurrency=1, batch_size=4)
        spans = [Span([*IDS[:20], 400 + n, *IDS[20:]], 20) for n in range(10)]

        async def work() -> list[Any]:
            await teacher.ready()
            server.requests.clear()
            return await asyncio.gather(*(teacher.log_probs(span) for span in spans))

        scored = run(work)
        assert [one.log_probs for one in scored] == [opinions(span.token_ids, 20) for span in spans]
        assert [len(prompts) for prompts in server.prompts] == [1, 4, 4, 1]
        assert server.peak_in_flight == 1


def test_a_lone_request_waits_for_nobody(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server, concurrency=4, batch_size=8)

        async def work() -> None:
            await teacher.ready()
            server.requests.clear()
            gate = asyncio.Event()
            arrived = 0

            async def hold(prompts: Any) -> None:
                nonlocal arrived
                arrived += 1
                await until(gate.is_set)

            server.gate = hold
            asked = [asyncio.create_task(teacher.log_probs(Span([*IDS, n], 5))) for n in range(4)]
            await until(lambda: arrived == 4)
            gate.set()
            await asyncio.gather(*asked)

        run(work)
        assert [len(prompts) for prompts in server.prompts] == [1, 1, 1, 1]


def test_a_server_without_batches_gets_one_at_a_time(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer, takes_batches=False) as server:
        teacher = teacher_of(tokenizer, server, concurrency=1)

        async def work() -> None:
            await asyncio.gather(*(teacher.log_probs(Span([*IDS, n], 5)) for n in range(3)))

        run(work)
        assert [len(prompts) for prompts in server.prompts[2:]] == [1, 1, 1]


def test_what_is_rejected_takes_nobody_along(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer, longest=60) as server:
        teacher = teacher_of(tokenizer, server, concurrency=1, batch_size=8)
        spans = [Span([*IDS, n], 5) for n in range(4)] + [Span(IDS * 2, 5)]

        async def work() -> list[Any]:
            await teacher.ready()
            return await asyncio.gather(*map(teacher.log_probs, spans), return_exceptions=True)

        *good, bad = run(work)
    assert [one.log_probs for one in good] == [opinions(span.token_ids, 5) for span in spans[:4]]
    assert isinstance(bad, ServiceRejected) and "longer than the context" in str(bad)


def test_what_has_no_log_probability_takes_nobody_along(tokenizer: Any) -> None:
    def spoil(answer: Any) -> Any:
        for one in answer if isinstance(answer, list) else [answer]:
            last = one["meta_info"]["input_token_logprobs"][-1]
            last[0] = None if last[1] == 404 else last[0]
        return answer

    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server, concurrency=1, batch_size=8)
        spans = [Span([*IDS, 400 + n], 5) for n in range(5)]

        async def work() -> list[Any]:
            await teacher.ready()
            server.script = lambda prompts: edited(spoil)
            return await asyncio.gather(*map(teacher.log_probs, spans), return_exceptions=True)

        *good, bad = run(work)
        assert [len(prompts) for prompts in server.prompts[2:]] == [1, 4, 1, 1, 1, 1]
    assert [one.log_probs for one in good] == [opinions(span.token_ids, 5) for span in spans[:4]]
    assert isinstance(bad, ProtocolError)


def test_a_prefix_is_scored_once(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server, cache_tokens=100_000)
        long = [300 + n % 90 for n in range(200)]
        other = [*long[:150], *range(310, 330)]

        async def ask(span: Span) -> Any:
            return await teacher.log_probs(span)

        assert run(lambda: ask(Span(long, 20))) == (opinions(long, 20), 0)
        before = server.scored_tokens
        # Of 130 common scored tokens, four blocks of 32 are whole.
        assert run(lambda: ask(Span(other, 20))) == (opinions(other, 20), 128)
        assert server.scored_tokens - before == len(other) - 20 - 128
        requests = len(server.requests)
        assert run(lambda: ask(Span(long, 20))) == (opinions(long, 20), 180)
        assert len(server.requests) == requests
        # After another prompt the same tokens mean something else.
        assert run(lambda: ask(Span([7, *long[1:]], 20))).remembered == 0


def test_the_cache_forgets_what_was_not_asked_for(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server, cache_tokens=64)
        spans = [Span([n, *IDS], 1) for n in range(3)]
        found = [run(lambda span=span: teacher.log_probs(span)).remembered for span in (*spans, spans[0], spans[0])]
    assert found == [0, 0, 0, 0, 40]


def test_several_servers_share_the_work_and_one_may_be_down(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer) as one, ScriptedTeacher(tokenizer) as two:
        teacher = teacher_of(tokenizer, one, two, url=f"{one.url},http://127.0.0.1:9,{two.url}/v1", cache_tokens=0)

        async def work() -> list[Any]:
            return await asyncio.gather(*(teacher.log_probs(Span([*IDS, n], 5)) for n in range(12)))

        assert [s.log_probs for s in run(work)] == [opinions([*IDS, n], 5) for n in range(12)]
        assert len(one.requests) > 2 and len(two.requests) > 2


@pytest.mark.parametrize("fault", [status(503), truncated], ids=["503", "cut"])
@pytest.mark.parametrize("probing", [True, False])
def test_a_fault_that_passes_is_outlived(probing: bool, fault: Any, tokenizer: Any) -> None:
    asked = probe_of(tokenizer).token_ids if probing else IDS
    with ScriptedTeacher(tokenizer) as server:
        faults = [fault]
        server.script = lambda prompts: faults.pop() if faults and prompts == [asked] else None
        assert run(lambda: teacher_of(tokenizer, server).log_probs(Span(IDS, 5))).log_probs == opinions(IDS, 5)
    assert not faults


def test_a_fault_that_stays_ends_the_request(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server)
        run(teacher.ready)
        server.script = lambda prompts: status(500)
        with pytest.raises(ServiceUnavailable, match=r"teacher at .*HTTP 500"):
            run(lambda: teacher.log_probs(Span(IDS, 5)))


@pytest.mark.parametrize("value", [None, "nan", True])
def test_no_log_probability_is_made_up(value: Any, tokenizer: Any) -> None:
    def spoil(answer: Any) -> Any:
        answer["meta_info"]["input_token_logprobs"][-1][0] = value
        return answer

    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server)
        run(teacher.ready)
        server.script = lambda prompts: edited(spoil)
        with pytest.raises(ProtocolError, match="no finite log-probability"):
            run(lambda: teacher.log_probs(Span(IDS, 5)))


def test_an_answer_about_other_tokens_is_refused(tokenizer: Any) -> None:
    def spoil(answer: Any) -> Any:
        answer["meta_info"]["input_token_logprobs"][3][1] += 1
        return answer

    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server)
        run(teacher.ready)
        server.script = lambda prompts: edited(spoil)
        with pytest.raises(ProtocolError, match="other tokens than were sent"):
            run(lambda: teacher.log_probs(Span(IDS, 5)))


def test_an_id_that_sglang_shows_as_0_is_taken_for_the_one_that_was_sent(tokenizer: Any) -> None:
    def spoil(answer: Any) -> Any:
        answer["meta_info"]["input_token_logprobs"][3][1] = 0
        return answer

    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server)
        run(teacher.ready)
        server.script = lambda prompts: edited(spoil)
        assert run(lambda: teacher.log_probs(Span(IDS, 5))).log_probs == opinions(IDS, 5)


def test_a_server_that_tells_none_is_refused_at_the_start(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer, style="text") as server, pytest.raises(ProtocolError) as refusal:
        run(teacher_of(tokenizer, server).ready)
    for words in (
        "gives no log-probabilities",
        "sglang: ",
        "HTTP 404",
        "vllm: ",
        "prompt_logprobs",
        "echo: ",
        "SGLang",
    ):
        assert words in str(refusal.value)


def test_without_any_server_the_run_does_not_start(tokenizer: Any) -> None:
    teacher = Teacher(TeacherConfig(url="http://127.0.0.1:9", attempts=1), tokenizer)
    with pytest.raises(ConfigError, match=r"teacher.url = http://127.0.0.1:9: no teacher answers"):
        run(teacher.ready)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("other", ["sentencepiece", "llama3's specials", "byte-level, other cuts"])
def test_another_tokenizer_than_was_said_is_refused(
    other: str, style: Style, tokenizer: Any, kinds: dict[str, Any], tmp_path: Path
) -> None:
    """Also one that has all words in common, or fewer tokens."""
    if other not in kinds:
        kinds = {other: AutoTokenizer.from_pretrained(save_kind(tmp_path, "byte-level", family="llama3"))}
    refused = pytest.raises(SlimeSearchError, match=r"teacher.tokenizer")
    with ScriptedTeacher(kinds[other], style=style) as server, refused:
        run(teacher_of(tokenizer, server).ready)


def test_servers_of_two_kinds_are_refused(tokenizer: Any) -> None:
    refused = pytest.raises(ProtocolError, match="not alike")
    with ScriptedTeacher(tokenizer) as one, ScriptedTeacher(tokenizer, style="vllm") as two, refused:
        run(teacher_of(tokenizer, one, two).ready)


def test_the_key_is_sent_and_not_shown(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer, style="vllm") as server:
        config = TeacherConfig(url=server.url, api_key="s3cr3t")  # type: ignore[arg-type]
        run(lambda: Teacher(config, tokenizer).log_probs(Span(IDS, 5)))
        assert {headers.get("Authorization") for headers in server.headers} == {"Bearer s3cr3t"}
    assert "s3cr3t" not in repr(config)


def test_all_who_wait_for_the_probe_share_it(tokenizer: Any) -> None:
    with ScriptedTeacher(tokenizer) as server:
        teacher = teacher_of(tokenizer, server)

        async def work() -> None:
            await asyncio.gather(*(teacher.ready() for _ in range(5)))

        run(work)
        assert len(server.requests) == 2
