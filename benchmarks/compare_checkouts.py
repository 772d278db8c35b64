"""CPU a trajectory here and in another checkout: ``python -m benchmarks.compare_checkouts PATH``.

Each side plays the same trajectories, two searches and an answer, against the same scripted servers, in a process of
its own and in alternating rounds. With tool calling the chat route takes token ids, as SGLang's does;
``--over-generate`` sends ours over ``/generate``, as it does behind a router.
"""

import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.machine import describe
from benchmarks.scenario import SEARCHES, Script, build_scenario
from benchmarks.scripted_servers import Latencies, scripted_servers
from benchmarks.tool_scenario import build_tool_scenario

ROOT = Path(__file__).parents[1]
TRAJECTORIES = 256
ROUNDS = 15
LATENCIES = Latencies(engine_s=0.05, search_s=0.02)
NOISE = 0.05
"""What the ratio of the medians may be over 1: rounds of one side differ by more."""


class Recipe(StrEnum):
    TAGS = "search-r1"
    TOOLS = "search-r1-tools"


def main(
    checkout: Annotated[Path, typer.Argument(help="The other checkout; both run in this Python's environment.")],
    recipe: Annotated[Recipe, typer.Option(help="Whose trajectories are played.")] = Recipe.TAGS,
    over_generate: Annotated[bool, typer.Option(help="Tool calling: send token ids over /generate here.")] = False,
) -> None:
    """Exits with 1 when a trajectory costs more CPU here than in the other checkout."""
    console = Console()
    console.print(describe("aiohttp"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        settings, script = _scenario(recipe, Path(folder))
        ports = stack.enter_context(scripted_servers(script, LATENCIES))
        settings |= {"recipe": recipe, "engine": ports.engine, "retriever": ports.retriever, "token_in": "input_ids"}
        here = settings | {"token_in": "generate"} if over_generate else settings
        sides = {
            "here": stack.enter_context(_side(ROOT, here)),
            str(checkout): stack.enter_context(_side(checkout, settings)),
        }
        rounds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(1 + ROUNDS):
            for name, side in sides.items():
                assert side.stdin and side.stdout
                print("play", file=side.stdin, flush=True)
                cpu_s = json.loads(side.stdout.readline())
                if number:
                    rounds[name].append(cpu_s / TRAJECTORIES * 1e3)
    for name, of_side in rounds.items():
        console.print(
            f"{name}: {statistics.median(of_side):.2f} ms a trajectory ({min(of_side):.2f} to {max(of_side):.2f})"
        )
    ratio = statistics.median(here / there for here, there in zip(*rounds.values(), strict=True))
    met = ratio <= 1 + NOISE
    console.print(
        f"ratio, median of {ROUNDS} pairs: {ratio:.3f}, at most {1 + NOISE:.2f}: {'met' if met else 'MISSED'}"
    )
    raise typer.Exit(0 if met else 1)


def _scenario(recipe: Recipe, folder: Path) -> tuple[dict[str, Any], Script]:
    """What a side needs of the scenario, and what the servers answer."""
    if recipe is Recipe.TOOLS:
        tools = build_tool_scenario(folder)
        return {"checkpoint": str(tools.checkpoint), "prompts": [tools.prompt] * TRAJECTORIES}, tools.script
    tags = build_scenario(folder, trajectories=TRAJECTORIES)
    return {"checkpoint": str(tags.checkpoint), "prompts": list(tags.prompts)}, tags.script


@contextmanager
def _side(checkout: Path, settings: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A process that plays a round for each line it reads, and writes the seconds of CPU that it took."""
    command = [sys.executable, str(Path(__file__)), "--side"]
    environment = os.environ | {"PYTHONPATH": f"{checkout.resolve()}{os.pathsep}{ROOT}"}
    with subprocess.Popen(
        command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        print(json.dumps(settings), file=process.stdin, flush=True)
        try:
            yield process
        finally:
            process.kill()


def _play_rounds(settings: dict[str, Any]) -> None:
    from benchmarks.bare_client import timed
    from slime_search.hooks.runtime import runtime

    sample_class = _sample_class()
    args = Namespace(
        hf_checkpoint=settings["checkpoint"],
        sglang_router_ip="127.0.0.1",
        sglang_router_port=settings["engine"],
        sglang_server_concurrency=512,
        rollout_num_engines=1,
    )
    runtime(args)
    recipe = _recipe(settings)
    params = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 512, "stop": None}

    async def rounds() -> None:
        for _ in sys.stdin:
            samples = [sample_class(prompt=prompt) for prompt in settings["prompts"]]
            _, cpu_s = await timed(recipe.generate(args, sample, params.copy()) for sample in samples)
            for sample in samples:
                if sample.status is not sample_class.Status.COMPLETED or len(sample.loss_mask) < 100:
                    raise RuntimeError(f"a trajectory ended {sample.status}: {sample.response[-300:]!r}")
            print(cpu_s, flush=True)

    asyncio.run(rounds())


def _recipe(settings: dict[str, Any]) -> Any:
    from slime_search.recipes.search_r1 import SearchR1
    from slime_search.recipes.search_r1_tools import SearchR1Tools

    config: dict[str, Any] = {
        "max_turns": SEARCHES,
        "search_concurrency": 512,
        "local": {"search_url": f"http://127.0.0.1:{settings['retriever']}/retrieve"},
    }
    if settings["recipe"] == Recipe.TOOLS:
        return SearchR1Tools(config | {"chat": {"token_in": settings["token_in"]}})
    return SearchR1(config)


def _sample_class() -> Any:
    """The plain sample, which checkouts of November 2026 and before keep in another module."""
    try:
        module = importlib.import_module("slime_search.hooks.contract")
        return module.LocalSample
    except (ImportError, AttributeError):
        return importlib.import_module("slime_search.local.sample").LocalSample


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        _play_rounds(json.loads(sys.stdin.readline()))
    else:
        typer.run(main)
