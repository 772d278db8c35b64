"""``slime-search evaluate`` and ``compare`` as a user runs them, against scripted servers."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from slime_search.cli.compare import app as compare_app
from slime_search.cli.evaluate import app as evaluate_app
from slime_search.evaluation.store import Writing
from tests.support.loopback import status
from tests.support.policies import think_answer
from tests.support.scripted_completions import ScriptedCompletions
from tests.support.scripted_engine import ScriptedEngine
from tests.support.scripted_retriever import ScriptedRetriever

pytestmark = pytest.mark.usefixtures("handlers")


class Site:
    """The servers and files of one evaluation."""

    def __init__(self, engine_url: str, search_url: str, folder: Path, checkpoint: Path, questions: Path) -> None:
        self.output = folder / "out"
        self._told = ["--engine-url", engine_url, "--checkpoint", str(checkpoint)]
        self._told += ["--search-url", search_url, "--test-set", str(questions), "--config", str(folder / "c.yaml")]
        (folder / "c.yaml").write_text("search_attempts: 1\nengine_attempts: 1\n")

    def evaluate(self, *options: str, output: Path | None = None) -> Result:
        told = [*self._told, "--output", str(output or self.output), *options]
        return CliRunner(env={"COLUMNS": "80"}).invoke(evaluate_app, told, catch_exceptions=False)

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.output / "summary.json").read_text())


@pytest.fixture
def site(
    engine: ScriptedEngine, retriever: ScriptedRetriever, tmp_path: Path, qwen_folder: Path, questions: Path
) -> Site:
    return Site(engine.url, retriever.search_url, tmp_path, qwen_folder, questions)


def test_it_scores_a_recipe_and_leaves_what_it_promises(site: Site) -> None:
    done = site.evaluate("--published", "3B")
    assert done.exit_code == 0, done.output
    nq = site.summary["data_sets"]["nq"]
    assert (nq["questions"], nq["rollouts"], nq["failed"]) == (10, 10, 0)
    assert (nq["em"]["mean"], nq["f1"]["mean"], nq["retrieval_hit"]["mean"]) == (0.5, 0.5, 1.0)
    assert nq["searches"]["mean"] == 1.0
    assert 0 <= nq["em"]["low"] < 0.5 < nq["em"]["high"] <= 1
    rows = [json.loads(line) for line in (site.output / "rollouts.jsonl").read_text().splitlines()]
    assert {row["id"] for row in rows} == {f"nq/{number}/0" for number in range(10)}
    table = (site.output / "table.md").read_text()
    assert "| nq | 10 | 50.0 [" in table
    # Published numbers stand beside, and nowhere in the summary.
    assert "Search-R1, GRPO, base; Jin et al., arXiv 2503.09516" in done.output
    assert "42.1" in done.output
    assert "0.421" not in json.dumps(site.summary) and "42.1" not in table
    assert all(len(line) <= 80 for line in done.output.splitlines() if not line.startswith("Rollouts"))


def test_a_finished_evaluation_asks_nothing_again(site: Site, engine: ScriptedEngine) -> None:
    site.evaluate()
    asked, summary = len(engine.exchanges), site.summary
    done = site.evaluate()
    assert done.exit_code == 0
    assert "10 of 10 rollouts" in done.output
    assert len(engine.exchanges) == asked
    assert site.summary == summary


def test_failures_are_loud_named_and_made_again(site: Site, retriever: ScriptedRetriever) -> None:
    retriever.script = lambda lookup: status(500) if lookup.query in ("thing-2", "thing-3") else None
    done = site.evaluate()
    assert done.exit_code == 1
    assert "2 rollouts were failed by infrastructure (2 by the retriever)" in done.output
    assert site.summary["data_sets"]["nq"]["failed_by_service"] == {"retriever": 2}
    assert site.summary["data_sets"]["nq"]["em"]["mean"] == 0.5
    retriever.script = lambda lookup: None
    before = len(retriever.lookups)
    assert site.evaluate().exit_code == 0
    assert sorted(retriever.queries[before:]) == ["thing-2", "thing-3"]
    assert site.summary["data_sets"]["nq"]["failed"] == 0
    assert len((site.output / "rollouts.jsonl").read_text().splitlines()) == 10


def test_a_changed_setting_is_refused_unless_told_to_begin_anew(site: Site) -> None:
    site.evaluate("--limit", "4")
    refused = site.evaluate("--limit", "4", "--turn-tokens", "100")
    assert refused.exit_code == 1
    assert "turn_tokens was 512 and is 100" in refused.output
    assert site.evaluate("--limit", "5").exit_code == 1
    assert site.evaluate("--limit", "5", "--fresh").exit_code == 0
    assert site.summary["data_sets"]["nq"]["rollouts"] == 5


def test_samples_have_seeds_of_their_own(site: Site, engine: ScriptedEngine) -> None:
    def seeds(*options: str) -> list[int]:
        before = len(engine.exchanges)
        done = site.evaluate("--samples", "3", "--temperature", "0.7", "--limit", "2", "--fresh", *options)
        assert done.exit_code == 0, done.output
        asked = [exchange for exchange in engine.exchanges[before:] if not exchange.is_probe]
        return sorted({exchange.sampling_params["sampling_seed"] for exchange in asked})

    assert len(seeds()) == 6
    assert seeds() == seeds("--concurrency", "1") != seeds("--seed", "1")
    assert site.summary["data_sets"]["nq"]["rollouts"] == 6


def test_a_greedy_evaluation_sends_no_seed(site: Site, engine: ScriptedEngine) -> None:
    site.evaluate("--limit", "1")
    assert all("sampling_seed" not in exchange.sampling_params for exchange in engine.exchanges)


def test_baselines_are_recipes_of_their_own(site: Site, retriever: ScriptedRetriever, engine: ScriptedEngine) -> None:
    assert site.evaluate("--rag").exit_code == 0
    assert len(retriever.lookups) == 10
    assert site.summary["recipe"] == "rag"
    refused = site.evaluate("--no-search", "--rag")
    assert refused.exit_code == 1 and "choose one" in refused.output


def test_any_openai_server_will_do_and_its_token_comes_from_the_environment(
    qwen: Any, qwen_folder: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    with ScriptedCompletions(qwen, lambda context: think_answer("name-2")) as server:
        site = Site(f"{server.url}/v1", "http://127.0.0.1:9/retrieve", tmp_path, qwen_folder, questions)
        sampled = ["--samples", "2", "--temperature", "1"]
        done = site.evaluate("--protocol", "completions", "--model", "m", "--no-search", *sampled)
    assert done.exit_code == 0, done.output
    assert set(server.tokens) == {"Bearer sesame"}
    assert {body["model"] for body in server.bodies} == {"m"}
    assert len({body["seed"] for body in server.bodies}) == 20
    assert site.summary["data_sets"]["nq"]["em"]["mean"] == 0.1
    assert "sesame" not in "".join(path.read_text() for path in site.output.glob("*.*"))


OWN_REWARD = """
from slime_search.recipes.search_r1 import SearchR1

generate = SearchR1({"max_turns": 1}).generate

async def reward_func(args, sample, **kwargs):
    return 7.0
"""


def test_a_reward_of_ones_own_changes_no_score(
    site: Site, tmp_path: Path, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "seven.py").write_text(OWN_REWARD)
    rows = map(json.loads, questions.read_text().splitlines())
    asked = [{**row, "prompt": [{"role": "user", "content": row["question"]}]} for row in rows]
    questions.write_text("".join(json.dumps(row) + "\n" for row in asked))
    assert site.evaluate().exit_code == 0
    theirs = site.summary["data_sets"]
    assert site.evaluate("--recipe", "seven", "--fresh").exit_code == 0
    for name in ("em", "f1", "cover_em", "retrieval_hit"):
        assert site.summary["data_sets"]["nq"][name] == theirs["nq"][name]
    rollouts = [json.loads(line) for line in (site.output / "rollouts.jsonl").read_text().splitlines()]
    assert {row["reward"] for row in rollouts} == {7.0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--samples", "2"], "greedy samples are all the same"),
        (["--recipe", "nonsense"], "'nonsense' is not one of search-r1"),
        (["--config", "/nowhere.yaml"], "--config /nowhere.yaml: No such file"),
        (["--test-set", "/nowhere.jsonl"], "/nowhere.jsonl: No such file"),
        (["--output", "/proc/none"], "--output /proc/none: "),
        (["--checkpoint", "/nowhere"], "--checkpoint /nowhere: there is no such folder"),
        (["--checkpoint", "/proc/self"], "/proc/self: no tokenizer can be read there"),
        (["--before"], "--before: is a quickstart's"),
        (["--recipe", "coda", "--rag"], "--rag and --recipe coda: choose one"),
    ],
)
def test_what_cannot_be_is_said(site: Site, options: list[str], told: str) -> None:
    done = site.evaluate(*options)
    assert done.exit_code == 1
    assert told in done.output and "Traceback" not in done.output
    assert not site.output.exists()


def test_a_disk_that_is_full_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, rollout: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Writing, "add", full)
    done = site.evaluate()
    assert done.exit_code == 1
    assert "error: No space left on device" in done.output


def test_the_environments_search_url_is_not_silently_preferred(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", "http://127.0.0.1:9/retrieve")
    done = site.evaluate()
    assert done.exit_code == 1 and "unset it" in done.output


@pytest.mark.timeout(900)
def test_a_quickstart_brings_its_servers_and_its_held_out_questions(tiny_quickstart: Path, tmp_path: Path) -> None:
    told = ["--quickstart", str(tiny_quickstart), "--output", str(tmp_path), "--limit", "3"]
    done = CliRunner(env={"COLUMNS": "80"}).invoke(evaluate_app, told, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "summary.json").read_text())["data_sets"]["held-out"]["questions"] == 3
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["engine"].keys() == {"model"}
    # Its servers are elsewhere each time.
    assert "search_url" not in settings["config"]["local"]
    refused = CliRunner().invoke(evaluate_app, [*told, "--rag"])
    assert refused.exit_code == 1 and "reads no instructions" in refused.output


def test_two_runs_are_compared(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    site.evaluate()
    site.evaluate("--no-search", "--limit", "6", output=other)
    markdown = tmp_path / "c.md"
    told = [str(other), str(site.output)]
    done = CliRunner(env={"COLUMNS": "80"}).invoke(compare_app, [*told, "--show", "1", "--markdown", str(markdown)])
    assert done.exit_code == 0, done.output
    assert "6 questions in common; 0 only in A, 4 only in B." in done.output
    assert "Wrong in A, right in B" in done.output
    assert "| nq | 6 |" in markdown.read_text()
    told_json = json.loads(CliRunner().invoke(compare_app, [*told, "--json"]).stdout)
    assert told_json["data_sets"]["nq"]["questions"] == 6
    assert told_json["average"]["em"]["difference"]["mean"] == pytest.approx(
        told_json["average"]["em"]["b"] - told_json["average"]["em"]["a"]
    )
    assert told_json["delegation"] == [None, None]


def test_a_folder_without_a_run_cannot_be_compared(tmp_path: Path) -> None:
    done = CliRunner().invoke(compare_app, [str(tmp_path), str(tmp_path)])
    assert done.exit_code == 1 and "no evaluation is there" in done.output
