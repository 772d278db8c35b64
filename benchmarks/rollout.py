"""How much time the rollout client adds to the services that it waits for: ``python -m benchmarks.rollout``.

Both cases play the same trajectory, three engine calls and two searches, against scripted HTTP servers. What is
measured and why: benchmarks/README.md.
"""

import asyncio
import importlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.bare_client import Round, play_bare, timed
from benchmarks.machine import describe
from benchmarks.scenario import ENGINE_CALLS, PASSAGES, SEARCHES, Scenario, build_scenario
from benchmarks.scripted_servers import Latencies, Ports, scripted_servers
from slime_search.hooks.contract import LocalSample
from slime_search.hooks.runtime import runtime
from slime_search.recipes.search_r1 import SearchR1
from slime_search.transport.client import close_sessions

SPEED_TRAJECTORIES = 1_024
SPEED_LATENCIES = Latencies(engine_s=1.0, search_s=0.1)
SPEED_ROUNDS = 3
SPEED_TARGET = 1.15

CPU_TRAJECTORIES = 256
CPU_CONNECTIONS = 512
CPU_LATENCIES = Latencies(engine_s=0.05, search_s=0.02)
CPU_ROUNDS = 7
CPU_TARGET = 1 / 6

Generate = Callable[[Any, Any, dict[str, Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ratio against a named baseline, and the largest ratio that meets the target."""

    ratio: float
    baseline: str
    target: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.target


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every round to this file.")] = None,
) -> None:
    """Runs both cases; exits with 1 when a target is missed. Set SLIME_HOME to compare with slime's own example."""
    _allow_open_files(4 * SPEED_TRAJECTORIES)
    console = Console()
    console.print(machine := describe("aiohttp"))
    console.print(f"command: {'SLIME_HOME=… ' if 'SLIME_HOME' in os.environ else ''}python -m benchmarks.rollout")
    with tempfile.TemporaryDirectory() as folder, Progress(console=console, auto_refresh=False) as progress:
        # The bar is redrawn between rounds only: a thread that redraws it would count as the client's CPU.
        task = progress.add_task("building the scenario", total=None)

        def show(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)
            progress.refresh()

        scenario = build_scenario(Path(folder), trajectories=SPEED_TRAJECTORIES)
        speed, bare, asleep_s = _measure_speed(scenario, show)
        cpu = _measure_cpu(scenario, os.environ.get("SLIME_HOME"), show)
        progress.update(task, visible=False)
    verdicts = [_report_speed(console, speed, bare, asleep_s)]
    verdicts += _report_cpu(console, cpu)
    if json_file is not None:
        rounds = {
            "speed": speed,
            "speed, bare aiohttp": bare,
            **{f"cpu, {side}": of_side for side, of_side in cpu.items()},
        }
        record = {
            "machine": machine,
            "rounds": {case: [asdict(one) for one in of_case] for case, of_case in rounds.items()},
            "verdicts": [{**asdict(verdict), "met": verdict.met} for verdict in verdicts],
        }
        json_file.write_text(json.dumps(record, indent=2) + "\n")
    raise typer.Exit(0 if all(verdict.met for verdict in verdicts) else 1)


Show = Callable[[str, int, int], None]


def _measure_speed(scenario: Scenario, show: Show) -> tuple[list[Round], list[Round], list[float]]:
    """Rounds of our recipe and of bare requests, each with fresh connections, and the same waits without any work."""
    rounds: list[Round] = []
    bare: list[Round] = []
    asleep_s: list[float] = []
    with scripted_servers(scenario.script, SPEED_LATENCIES) as ports:
        args = _slime_args(scenario, ports, connections=SPEED_TRAJECTORIES)
        # Loads the tokenizer, which a rollout finds loaded.
        runtime(args)
        for done in range(SPEED_ROUNDS):
            show(f"{SPEED_TRAJECTORIES:,} trajectories", done, SPEED_ROUNDS)
            recipe = _our_recipe(ports, SPEED_TRAJECTORIES)
            samples = [LocalSample(prompt=prompt) for prompt in scenario.prompts]
            rounds.append(asyncio.run(_with_fresh_connections(_play(recipe.generate, args, samples))))
            bare.append(asyncio.run(play_bare(scenario.script, ports, SPEED_TRAJECTORIES)))
            asleep_s.append(asyncio.run(_only_wait(SPEED_TRAJECTORIES, SPEED_LATENCIES)))
    return rounds, bare, asleep_s


def _measure_cpu(scenario: Scenario, slime_home: str | None, show: Show) -> dict[str, list[Round]]:
    """Rounds of each side in turn, after one of each that does not count."""
    with scripted_servers(scenario.script, CPU_LATENCIES) as ports:
        args = _slime_args(scenario, ports, connections=CPU_CONNECTIONS)
        sample_class: type[Any] = LocalSample
        sides: dict[str, Generate] = {"slime-search": _our_recipe(ports, CPU_CONNECTIONS).generate}
        if slime_home is not None:
            show("importing slime", 0, CPU_ROUNDS)
            sides["slime's example"], sample_class = _slime_example(Path(slime_home), args, ports)

        async def alternate() -> dict[str, list[Round]]:
            rounds: dict[str, list[Round]] = {side: [] for side in sides}
            for done in range(1 + CPU_ROUNDS):
                show(f"CPU of {CPU_TRAJECTORIES} trajectories", done, 1 + CPU_ROUNDS)
                for side, generate in sides.items():
                    samples = [sample_class(prompt=prompt) for prompt in scenario.prompts[:CPU_TRAJECTORIES]]
                    rounds[side].append(await _play(generate, args, samples))
            await close_sessions()
            return {side: of_side[1:] for side, of_side in rounds.items()}

        # One event loop for all rounds, as in slime, whose HTTP client lives as long as the process.
        return asyncio.run(alternate())


async def _with_fresh_connections(round_: Awaitable[Round]) -> Round:
    """Each event loop has connections of its own, so they are closed with it."""
    try:
        return await round_
    finally:
        await close_sessions()


async def _play(generate: Generate, args: Namespace, samples: Sequence[Any]) -> Round:
    sampling_params = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "max_new_tokens": 512, "stop": None}
    wall_s, cpu_s = await timed(generate(args, sample, sampling_params.copy()) for sample in samples)
    _check(samples)
    return Round(wall_s, cpu_s, statistics.fmean(sample.response_length for sample in samples))


def _check(samples: Sequence[Any]) -> None:
    """A failed request makes a trajectory shorter and cheaper, so a round counts only when none did."""
    for sample in samples:
        passages_read = sample.response.count(f"Doc {PASSAGES}(Title: ")
        if sample.status.name != "COMPLETED" or passages_read != SEARCHES:
            raise RuntimeError(
                f"a trajectory ended {sample.status.name} after reading {passages_read} search results instead of "
                f"{SEARCHES}; its response ends {sample.response[-300:]!r}"
            )


async def _only_wait(trajectories: int, latencies: Latencies) -> float:
    async def trajectory() -> None:
        for _ in range(SEARCHES):
            await asyncio.sleep(latencies.engine_s)
            await asyncio.sleep(latencies.search_s)
        await asyncio.sleep(latencies.engine_s)

    start = time.perf_counter()
    await asyncio.gather(*(trajectory() for _ in range(trajectories)))
    return time.perf_counter() - start


def _critical_path_s(latencies: Latencies) -> float:
    return ENGINE_CALLS * latencies.engine_s + SEARCHES * latencies.search_s


def _our_recipe(ports: Ports, concurrency: int) -> SearchR1:
    return SearchR1(
        {
            "max_turns": SEARCHES,
            "topk": PASSAGES,
            "search_concurrency": concurrency,
            "local": {"search_url": f"http://127.0.0.1:{ports.retriever}/retrieve"},
        }
    )


def _slime_example(home: Path, args: Namespace, ports: Ports) -> tuple[Generate, type[Any]]:
    """``generate`` of the example in slime's checkout, set up for the same turns, and slime's Sample."""
    sys.path[:0] = [str(home), str(home / "examples" / "search-r1")]
    example = importlib.import_module("generate_with_search")
    # slime counts the turn that answers.
    example.SEARCH_R1_CONFIGS.update(max_turns=ENGINE_CALLS, topk=PASSAGES)
    example.SEARCH_R1_CONFIGS["local"]["search_url"] = f"http://127.0.0.1:{ports.retriever}/retrieve"
    importlib.import_module("slime.utils.http_utils").init_http_client(args)
    return example.generate, example.Sample


def _slime_args(scenario: Scenario, ports: Ports, *, connections: int) -> Namespace:
    """What both sides read of slime's arguments."""
    return Namespace(
        hf_checkpoint=str(scenario.checkpoint),
        sglang_router_ip="127.0.0.1",
        sglang_router_port=ports.engine,
        sglang_server_concurrency=connections,
        sglang_dp_size=1,
        rollout_num_engines=1,
        use_distributed_post=False,
        partial_rollout=False,
        rollout_temperature=1.0,
        rollout_top_p=1.0,
        rollout_top_k=-1,
        rollout_max_response_len=512,
        rollout_stop=None,
        rollout_stop_token_ids=None,
        rollout_skip_special_tokens=False,
    )


def _report_speed(
    console: Console, rounds: Sequence[Round], bare: Sequence[Round], asleep_s: Sequence[float]
) -> Verdict:
    computed_s = _critical_path_s(SPEED_LATENCIES)
    wall_s = statistics.median(one.wall_s for one in rounds)
    baseline = "the critical path, computed from the scripted latencies"
    verdict = Verdict(wall_s / computed_s, baseline, SPEED_TARGET)
    latencies = (
        f"{SPEED_LATENCIES.engine_s * 1e3:.0f} ms an engine call, {SPEED_LATENCIES.search_s * 1e3:.0f} ms a search"
    )
    table = Table(title=f"Speed: {SPEED_TRAJECTORIES:,} trajectories at once, {latencies}", title_justify="left")
    for heading in ("", "wall, median", "fastest to slowest", "against the critical path", "CPU a trajectory"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("critical path, computed", f"{computed_s:.2f} s", "", "1.00", "")
    asleep = statistics.median(asleep_s)
    table.add_row("asyncio.sleep alone", f"{asleep:.2f} s", _span(asleep_s, 1, "s"), f"{asleep / computed_s:.2f}", "")
    for side, of_side in (("bare aiohttp, no agent", bare), ("slime-search", rounds)):
        median_s = statistics.median(one.wall_s for one in of_side)
        table.add_row(
            side,
            f"{median_s:.2f} s",
            _span([one.wall_s for one in of_side], 1, "s"),
            f"{median_s / computed_s:.2f}",
            f"{statistics.median(one.cpu_s for one in of_side) / SPEED_TRAJECTORIES * 1e3:.2f} ms",
        )
    console.print(table)
    _print_verdict(console, verdict, "wall time")
    return verdict


def _report_cpu(console: Console, sides: dict[str, list[Round]]) -> list[Verdict]:
    latencies = f"{CPU_LATENCIES.engine_s * 1e3:.0f} ms an engine call, {CPU_LATENCIES.search_s * 1e3:.0f} ms a search"
    table = Table(title=f"CPU: {CPU_TRAJECTORIES} trajectories at once, {latencies}", title_justify="left")
    for heading in ("", "CPU a trajectory, median", "fastest to slowest", "wall, median", "response tokens"):
        table.add_column(heading, justify="left" if not heading else "right")
    per_trajectory = 1e3 / CPU_TRAJECTORIES
    medians_s = {side: statistics.median(one.cpu_s for one in rounds) for side, rounds in sides.items()}
    for side, rounds in sides.items():
        table.add_row(
            side,
            f"{medians_s[side] * per_trajectory:.2f} ms",
            _span([one.cpu_s for one in rounds], per_trajectory, "ms"),
            f"{statistics.median(one.wall_s for one in rounds):.2f} s",
            f"{statistics.fmean(one.response_tokens for one in rounds):.0f}",
        )
    console.print(table)
    if len(sides) == 1:
        console.print("No baseline: set SLIME_HOME to a checkout of slime to compare with its example.")
        return []
    ours_s, theirs_s = medians_s.values()
    verdict = Verdict(ours_s / theirs_s, "slime's examples/search-r1, in the same run", CPU_TARGET)
    _print_verdict(console, verdict, "CPU a trajectory")
    return [verdict]


def _print_verdict(console: Console, verdict: Verdict, what: str) -> None:
    outcome = "[green]met[/green]" if verdict.met else "[red]MISSED[/red]"
    console.print(f"{what}: {verdict.ratio:.3f} of {verdict.baseline}; target ≤ {verdict.target:.3f}: {outcome}\n")


def _span(values: Sequence[float], scale: float, unit: str) -> str:
    return f"{min(values) * scale:.2f}–{max(values) * scale:.2f} {unit}"


def _allow_open_files(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"the benchmark opens up to {needed} files, the limit is {hard}: raise `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


if __name__ == "__main__":
    typer.run(main)
