"""``slime-search curves``."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import Progress

from slime_search.cli.console import one_sentence, stderr
from slime_search.errors import ConfigError, DataError
from slime_search.viewer.curve import Metric
from slime_search.viewer.run_metrics import names_of, read_run

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
_console = Console(highlight=False)
_KINDS = (".png", ".svg")


@app.command()
def curves(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Folders of runs.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="The image, .png or .svg.", show_default="curves.png; none with --json")
    ] = None,
    title: Annotated[str | None, typer.Option(help="The heading of the image.", show_default="the runs' names")] = None,
    reward_key: Annotated[
        str | None, typer.Option(help="slime's --reward-key, where the rewards of dumps are dicts.", show_default=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the numbers of the curves as one JSON object.")
    ] = False,
) -> None:
    """Draw reward, exact match, searches, lengths and failures over the training steps.

    slime-search curves runs/quickstart

    slime-search curves /ckpt/run/dumps --output run.svg

    slime-search curves tensorboard/a tensorboard/b --title "a against b"

    A SOURCE is a quickstart's folder, a folder of slime's
    --save-debug-rollout-data or --dump-details, or slime's TensorBoard folder.
    Several are drawn on top of each other, to compare them. A run may still be
    going on.
    """
    with one_sentence():
        image = output or (None if as_json else Path("curves.png"))
        if image is not None and image.suffix not in _KINDS:
            raise ConfigError(f"--output {image}: name a file that ends in {' or '.join(_KINDS)}")
        with Progress(console=stderr, transient=True) as progress:
            names = names_of(sources)
            runs = {
                name: read_run(path, progress, reward_key=reward_key) for name, path in zip(names, sources, strict=True)
            }
        if image is not None:
            _draw(runs, image, title or " and ".join(names))
    if as_json:
        sys.stdout.write(orjson.dumps({"runs": runs}).decode() + "\n")
    elif image is not None:
        _console.print(_summary(runs, image), markup=False, soft_wrap=True)


def _draw(runs: Mapping[str, Sequence[Metric]], path: Path, title: str) -> None:
    from slime_search.viewer.panels import draw_panels

    drawn = draw_panels(runs, title=title, kind="svg" if path.suffix == ".svg" else "png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn)
    except OSError as error:
        raise DataError(f"--output {path}: {error.strerror}; name a file that can be written") from None


def _summary(runs: Mapping[str, Sequence[Metric]], path: Path) -> str:
    counts = []
    for name, rows in runs.items():
        steps = {phase: len({row["step"] for row in rows if row.get("phase") == phase}) for phase in ("train", "eval")}
        counts.append(f"{name}: {steps['train']} training steps, {steps['eval']} evaluations")
    return "\n".join([*counts, f"Drawn in {path}"])
