"""``slime-search rollout`` against scripted servers: what it asks, shows, keeps and refuses."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from slime_search.cli.rollout import app
from slime_search.records.rollout import Rollout, read_rollout
from tests.support.loopback import status
from tests.support.policies import by_turn, think_answer, think_search, turns_of
from tests.support.scripted_completions import ScriptedCompletions
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever
from tests.support.scripted_searcher import ScriptedSearcher
from tests.support.thinkers import asking

ROOT = Path(__file__).parents[3]
ASK = ("--ask", "Who made thing-7?")


def kept(path: Path) -> list[Rollout]:
    return [read_rollout(orjson.loads(line)) for line in path.read_bytes().splitlines()]


def cells(output: str) -> dict[str, str]:
    """The table at the end."""
    rows = [line.split("│") for line in output.splitlines() if line.count("│") == 3]
    return {row[1].strip(): row[2].strip() for row in rows}


def in_order(text: str, *parts: str) -> bool:
    place = 0
    for part in parts:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def test_a_question_is_shown_turn_by_turn(run: Any, engine: ScriptedEngine, retriever: ScriptedRetriever) -> None:
    done = run("--engine-url", engine.url, *ASK, "--gold", "name-7")
    assert done.exit_code == 0, done.output
    shown = ["Who made thing-7?", "<search> thing-7 maker </search>", "search: thing-7 maker"]
    shown += ["1  About thing-7: It was made by name-7 long ago.", "agent reads on", "<answer> name-7 </answer>"]
    assert in_order(done.output, *shown, "answer: name-7", "EM 1", "1 search,"), done.output
    assert cells(done.output)["exact match"] == "1.000"


def test_without_a_gold_answer_there_is_no_score(run: Any, engine: Any, retriever: Any) -> None:
    done = run("--engine-url", engine.url, *ASK)
    assert done.exit_code == 0, done.output
    assert not {"exact match", "reward"} & cells(done.output).keys()


def test_every_rollout_of_a_file_is_kept_and_counted(
    run: Any, engine: Any, retriever: Any, questions: Path, tmp_path: Path
) -> None:
    output = tmp_path / "kept" / "rollouts.jsonl"
    arguments = ("--engine-url", engine.url, "--questions", questions, "--samples", 2, "--output", output)
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    rollouts = kept(output)
    assert len({one.id for one in rollouts}) == 10
    assert sorted({one.group for one in rollouts}) == [f"things/{n}" for n in range(5)]
    assert all(one.wall_s and one.recipe == "search-r1" and one.facts.searches == 1 for one in rollouts)
    assert sum(one.score["em"] for one in rollouts) == 8
    table = cells(done.output)
    assert (table["rollouts"], table["ended"]) == ("10 of 5 questions", "answered 10")
    assert (table["exact match"], table["searches a rollout"], table["turns a rollout"]) == ("0.800", "1.0", "2.0")
    assert done.output.count("✓ who made thing-") == 8
    assert done.output.count("→ name-4 [else]") == 2
    run(*arguments, "--limit", 1)
    assert len({one.id for one in kept(output)}) == 12, "a second run is appended, with ids of its own"


def test_a_service_that_is_down_is_named(run: Any, engine: Any, retriever: Any, questions: Path) -> None:
    retriever.script = lambda lookup: status(503) if "thing-2" in lookup.query else None
    done = run("--engine-url", engine.url, "--questions", questions, "--limit", 4)
    assert done.exit_code == 0, done.output
    table = cells(done.output)
    assert (table["failed by"], table["exact match"]) == ("retriever 1", "1.000")
    assert "! who made thing-2 → retriever at" in done.output


def test_it_is_an_error_if_every_rollout_failed(run: Any, engine: Any, retriever: Any) -> None:
    retriever.script = lambda lookup: status(503)
    done = run("--engine-url", engine.url, *ASK, "--gold", "x")
    assert done.exit_code == 1
    assert "agent failed: retriever at" in " ".join(done.output.split())
    assert "error: every rollout was failed by a service" in done.output


def test_attempts_have_seeds_of_their_own(run: Any, engine: ScriptedEngine, retriever: Any) -> None:
    run("--engine-url", engine.url, *ASK, "--samples", 3, "--seed", 40, "--temperature", 0.5, "--turn-tokens", 99)
    params = [exchange.sampling_params for exchange in engine.exchanges if not exchange.is_probe]
    assert [one["sampling_seed"] for one in params] == [40, 40, 41, 41, 42, 42]
    assert {(one["temperature"], one["max_new_tokens"]) for one in params} == {(0.5, 99)}


@pytest.mark.parametrize("ending", [".txt", ".json"])
def test_a_prompt_template_takes_the_recipes_place(
    ending: str, run: Any, engine: ScriptedEngine, retriever: Any, tmp_path: Path
) -> None:
    template = tmp_path / f"prompt{ending}"
    text = "Look it up: {question} Be brief."
    messages = [{"role": "system", "content": "A system prompt."}, {"role": "user", "content": text}]
    template.write_bytes(orjson.dumps(messages) if ending == ".json" else text.encode())
    done = run("--engine-url", engine.url, "--ask", "Who made thing-7", "--prompt-template", template)
    assert done.exit_code == 0, done.output
    prompt = engine.exchanges[0].prompt
    assert "Look it up: Who made thing-7? Be brief.<|im_end|>" in prompt
    assert ("A system prompt." in prompt) == (ending == ".json")
    assert "You must conduct reasoning" not in prompt


def test_tokens_are_shown_with_owner_and_log_probability(
    run: Any, engine: ScriptedEngine, retriever: Any, tmp_path: Path
) -> None:
    output = tmp_path / "one.jsonl"
    done = run("--engine-url", engine.url, *ASK, "--show", "tokens", "--output", output)
    assert done.exit_code == 0, done.output
    (rollout,) = kept(output)
    prompt, turn, world, _ = rollout.runs[0].segments
    assert turn.log_probs is not None
    headings = [f"prompt, {len(prompt.tokens)} tokens", f"model, {len(turn.tokens)} tokens, trained, mean log-prob"]
    assert in_order(done.output, *headings, f"world, {len(world.tokens)} tokens, not trained"), done.output
    for token, log_prob in zip(turn.tokens, turn.log_probs, strict=True):
        assert f"{log_prob:6.2f} {token!r}" in done.output
    assert "│".join(world.tokens[3:6]) in done.output


def test_what_a_searcher_asked_and_found_is_shown(
    run: Any, qwen: Any, monkeypatch: pytest.MonkeyPatch, retriever: Any
) -> None:
    with ScriptedEngine(qwen, by_turn(asking)) as engine, ScriptedSearcher(lambda question: "name-7") as searcher:
        monkeypatch.setenv("SLIME_SEARCH_SEARCHER_URL", searcher.search_url)
        done = run("--engine-url", engine.url, "--recipe", "thinker-searcher", *ASK)
    assert done.exit_code == 0, done.output
    parts = ["─ thinker ─", "search: Who made thing-7?", "searched for: Who made thing-7?", "1  T: about Who made"]
    assert in_order(done.output, *parts, "→ name-7", "─ thinker ─", "answer: name-7"), done.output


def test_a_completions_server_gets_the_token_from_the_environment(
    run: Any, qwen: Any, retriever: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    with ScriptedCompletions(qwen, turns_of(think_search("thing-7"), think_answer("name-7"))) as server:
        done = run("--engine-url", f"{server.url}/v1", "--protocol", "completions", "--model", "m", "--seed", 5, *ASK)
    assert done.exit_code == 0, done.output
    assert {(body["model"], body["seed"]) for body in server.bodies} == {("m", 5)}
    assert set(server.tokens) == {"Bearer s3cret"}
    assert "answer: name-7" in done.output
    assert "s3cret" not in done.output


def test_a_quickstart_is_asked_what_it_never_saw(tiny_quickstart: Path, tmp_path: Path) -> None:
    """With its own retriever, engine and recipe; an untaught policy may say anything."""
    output = tmp_path / "two.jsonl"
    held_out = tiny_quickstart / "data" / "test.parquet"
    asked = ["--quickstart", tiny_quickstart, "--questions", held_out, "--limit", 2, "--output", output]
    done = CliRunner().invoke(app, list(map(str, asked)), env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    assert {one.recipe for one in kept(output)} == {"search-r1"}
    assert sorted(one.group for one in kept(output)) == ["test/0", "test/1"]
    assert all(one.facts.model_tokens and one.score.keys() >= {"em", "f1"} for one in kept(output))


def test_questions_are_asked_for_until_an_empty_line(run: Any, engine: Any, retriever: Any) -> None:
    done = run("--engine-url", engine.url, input="Who made thing-7?\nWho made thing-8?\n\n")
    assert done.exit_code == 0, done.output
    assert in_order(done.output, "answer: name-7", "answer: name-8")
    assert cells(done.output)["rollouts"] == "2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "3"], "--limit 3: is of a file"),
        (["--questions", "q.parquet", "--ask", "a"], "leave out --ask and --gold"),
        (["--ask", "a", "--ask", "b", "--gold", "x"], "--gold: 1 answers for 2 questions"),
        (["--ask", " "], "--ask: the question is empty"),
        (["--gold", "x"], "--gold: 1 answers for 0 questions"),
        (["--questions", "nowhere.jsonl"], "nowhere.jsonl: No such file or directory"),
        (["--ask", "a", "--recipe", "r2"], "'r2' is not one of search-r1"),
        (["--ask", "a", "--before"], "--before: is a quickstart's"),
        (["--ask", "a", "--quickstart", "here"], "--quickstart here brings its own"),
        (["--ask", "a", "--prompt-template", "nowhere.txt"], "nowhere.txt: No such file"),
        (["--ask", "a", "--output", "/proc/none/x.jsonl"], "--output /proc/none/x.jsonl: "),
    ],
)
def test_bad_options_are_refused_in_a_sentence(arguments: list[str], message: str, run: Any) -> None:
    done = run("--engine-url", "http://127.0.0.1:9", *arguments)
    assert done.exit_code == 1
    assert "error: " in done.output
    assert message in done.output


def test_nothing_to_ask_is_an_error(run: Any) -> None:
    done = run("--engine-url", "http://127.0.0.1:9", input="")
    assert done.exit_code == 1
    assert "error: no question" in done.output


def test_an_interrupted_run_keeps_and_counts_what_was_done(
    engine: ScriptedEngine, retriever: Any, questions: Path, tmp_path: Path, qwen_folder: Path
) -> None:
    output = tmp_path / "rollouts.jsonl"

    async def third_waits(exchange: Any) -> None:
        if "thing-2" in exchange.prompt:
            os.kill(child.pid, signal.SIGINT)
            await asyncio.sleep(60)

    engine.gate = third_waits
    command = [
        sys.executable,
        "-m",
        "slime_search.cli",
        "rollout",
        "--checkpoint",
        qwen_folder,
        "--concurrency",
        "1",
    ]
    command += ["--engine-url", engine.url, "--questions", questions, "--output", output]
    child = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    shown, _ = child.communicate(timeout=120)
    assert child.returncode == 130, shown
    assert [one.group for one in kept(output)] == ["things/0", "things/1"]
    assert cells(shown)["rollouts"] == "2"


def test_a_checkpoint_without_a_chat_template_is_refused(qwen_folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    for recipe in ("search-r1", "search-r1-tools", "coda", "rag"):
        argv = ["--engine-url", "http://127.0.0.1:9", "--checkpoint", str(tmp_path), "--ask", "a", "--recipe", recipe]
        done = CliRunner().invoke(app, argv, env={"COLUMNS": "100"})
        assert (done.exit_code, type(done.exception)) == (1, SystemExit), (recipe, done.output)
        told = done.output.replace("\n", "")
        assert f"{tmp_path}: its tokenizer has no chat template" in told, recipe
        assert "huggingface.co" not in told
