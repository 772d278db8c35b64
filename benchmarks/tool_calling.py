"""CPU a trajectory of the tool-calling recipe, and in another checkout: ``python -m benchmarks.tool_calling PATH``.

Each side plays the same trajectories, two searches and an answer, against the same scripted servers, in a process of
its own and in alternating rounds. The chat route takes token ids, as SGLang's does; ``--over-generate`` sends ours over
``/generate``, as it does behind a router.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.machine import describe
from benchmarks.scripted_servers import Latencies, Ports, scripted_servers
from benchmarks.tool_scenario import SEARCHES, ToolScenario, build_tool_scenario

ROOT = Path(__file__).parents[1]
TRAJECTORIES = 256
ROUNDS = 7
LATENCIES = Latencies(engine_s=0.05, search_s=0.02)
TARGET = 1.0
NOISE = 0.03
"""What a ratio may be over its target: rounds of one side differ by more."""


def main(
    checkout: Annotated[Path, typer.Argument(help="The other checkout, with its environment in .venv or none.")],
    over_generate: Annotated[bool, typer.Option(help="Send token ids over /generate here.")] = False,
) -> None:
    """Exits with 1 when a trajectory costs more CPU here than in the other checkout."""
    console = Console()
    console.print(describe("aiohttp"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scenario = build_tool_scenario(Path(folder))
        ports = stack.enter_context(scripted_servers(scenario.script, LATENCIES))
        way = "generate" if over_generate else "input_ids"
        sides = {
            "here": stack.enter_context(_side(ROOT, scenario, ports, way)),
            str(checkout): stack.enter_context(_side(checkout, scenario, ports, "input_ids")),
        }
        rounds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(1 + ROUNDS):
            for name, side in sides.items():
                assert side.stdin and side.stdout
                print("play", file=side.stdin, flush=True)
                if number:
                    rounds[name].append(json.loads(side.stdout.readline()) / TRAJECTORIES * 1e3)
                else:
                    side.stdout.readline()
    medians = {name: statistics.median(of_side) for name, of_side in rounds.items()}
    for name, of_side in rounds.items():
        console.print(f"{name}: {medians[name]:.2f} ms a trajectory ({min(of_side):.2f} to {max(of_side):.2f})")
    here, there = medians.values()
    met = here / there <= TARGET + NOISE
    console.print(f"ratio {here / there:.3f}, target at most {TARGET:.2f}: {'met' if met else 'missed'}")
    raise typer.Exit(0 if met else 1)


@contextmanager
def _side(checkout: Path, scenario: ToolScenario, ports: Ports, way: str) -> Iterator[subprocess.Popen[str]]:
    """A process that plays a round for each line it reads, and writes the seconds of CPU that it took."""
    told = {"checkpoint": str(scenario.checkpoint), "prompt": scenario.prompt, "way": way}
    told |= {"engine": ports.engine, "retriever": ports.retriever}
    command = [sys.executable, str(Path(__file__)), "--side", json.dumps(told)]
    environment = os.environ | {"PYTHONPATH": f"{checkout}{os.pathsep}{ROOT}"}
    with subprocess.Popen(
        command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _play_rounds(told: dict[str, Any]) -> None:
    from benchmarks.bare_client import timed
    from slime_search.hooks.driving import LocalSample
    from slime_search.hooks.runtime import runtime
    from slime_search.recipes.search_r1_tools import SearchR1Tools

    recipe = SearchR1Tools(
        {
            "max_turns": SEARCHES,
            "chat": {"token_in": told["way"]},
            "search_concurrency": 512,
            "local": {"search_url": f"http://127.0.0.1:{told['retriever']}/retrieve"},
        }
    )
    args = Namespace(
        hf_checkpoint=told["checkpoint"],
        sglang_router_ip="127.0.0.1",
        sglang_router_port=told["engine"],
        sglang_server_concurrency=512,
        rollout_num_engines=1,
    )
    runtime(args)
    params = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 512, "stop": None}

    async def rounds() -> None:
        for _ in sys.stdin:
            samples = [LocalSample(prompt=told["prompt"]) for _ in range(TRAJECTORIES)]
            _, cpu_s = await timed(recipe.generate(args, sample, params.copy()) for sample in samples)
            for sample in samples:
                if sample.status is not LocalSample.Status.COMPLETED or len(sample.loss_mask) < 100:
                    raise RuntimeError(f"a trajectory ended {sample.status}: {sample.response[-300:]!r}")
            print(cpu_s, flush=True)

    asyncio.run(rounds())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        _play_rounds(json.loads(sys.argv[2]))
    else:
        typer.run(main)
