"""Draws docs/images/token-truth.png: ``python docs/images/token_truth.py``, with ``[local]`` installed.

A rollout of a tiny model, token by token, and what its text becomes when a tokenizer encodes it again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from rich.console import Console
from tiny_rollouts import rollouts_in

from slime_search.core.tokens import TokenCodec
from slime_search.records.rollout import Owner, Rollout, Segment
from slime_search.viewer.curve import LIGHT

IMAGE = Path(__file__).with_name("token-truth.png")
COLUMNS = 90
"""Characters of a line."""
GUTTER = 12
"""Columns left of it, for what a row shows."""
FILLS: dict[Owner, str] = {"prompt": "#eef0f3", "model": "#cfe6f5", "world": "#fbe3c8"}
NAMES: tuple[tuple[Owner, str, float], ...] = (("prompt", "prompt", 8), ("model", "model", 7.8), ("world", "tool", 6.6))
"""What the owners are called, and the columns that each takes in the legend."""
WRONG = "#c8102e"
DEEPEST = 3.0
"""Nats that a log-probability's bar shows at most."""
LOG_PROBS, MASK, AGAIN, BLOCK = 0.75, 1.65, 2.6, 4.2
"""Rows of a line below its tokens, and the height of all, in lines of text."""
HEAD = 3.4


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the characters of the whole text that it covers."""

    id: int
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Line:
    """A stretch of one segment that fits into the picture's width, from character ``start``."""

    segment: Segment
    tokens: list[Token]
    log_probs: list[float] | None
    is_first: bool

    @property
    def gap(self) -> float:
        """What the rows below its tokens move up, where there are no log-probabilities."""
        return 0.0 if self.log_probs else MASK - LOG_PROBS

    @property
    def height(self) -> float:
        return BLOCK - self.gap

    @property
    def start(self) -> int:
        return self.tokens[0].start

    @property
    def end(self) -> int:
        return self.tokens[-1].end


def encoded_again(rollout: Rollout, codec: TokenCodec) -> list[Token]:
    """What a pipeline that keeps text would train on: the rollout's text through the tokenizer."""
    ids = encoded("".join(segment.text for segment in rollout.runs[-1].segments), codec)
    return placed(ids, codec.pieces(ids), 0)


def encoded(text: str, codec: TokenCodec) -> list[int]:
    return codec.tokenizer.encode(text, add_special_tokens=False)


def placed(ids: Sequence[int], texts: Sequence[str], start: int) -> list[Token]:
    tokens = []
    for token_id, text in zip(ids, texts, strict=True):
        tokens.append(Token(token_id, text, start))
        start += len(text)
    return tokens


def changes(rollout: Rollout, codec: TokenCodec) -> set[Token]:
    """The tokens of the second encoding that the rollout does not have at their place."""
    segments = rollout.runs[-1].segments
    ids = [token_id for segment in segments for token_id in segment.token_ids or ()]
    texts = [text for segment in segments for text in segment.tokens]
    return set(encoded_again(rollout, codec)) - set(placed(ids, texts, 0))


def changed_turns(rollout: Rollout, codec: TokenCodec) -> int:
    """The model's turns that are other tokens when each is encoded by itself."""
    turns = (segment for segment in rollout.runs[-1].segments if segment.owner == "model")
    # The tokens are decoded together, since a character may be spread over several.
    return sum(
        encoded(codec.tokenizer.decode(ids, skip_special_tokens=False), codec) != ids
        for ids in (list(turn.token_ids or ()) for turn in turns)
    )


def lines_of(rollout: Rollout) -> Iterator[Line]:
    """The rollout's tokens, each segment beginning a line of its own."""
    start = 0
    for segment in rollout.runs[-1].segments:
        tokens = placed(segment.token_ids or (), segment.tokens, start)
        start += len(segment.text)
        at = 0
        while at < len(tokens):
            following = at + 1
            while following < len(tokens) and tokens[following].end - tokens[at].start <= COLUMNS:
                following += 1
            log_probs = None if segment.log_probs is None else list(segment.log_probs[at:following])
            yield Line(segment, tokens[at:following], log_probs, at == 0)
            at = following


def draw(rollout: Rollout, codec: TokenCodec, path: Path) -> None:
    """The picture of one rollout, 1350 pixels wide."""
    lines, again, wrong = list(lines_of(rollout)), encoded_again(rollout, codec), changes(rollout, codec)
    height = HEAD + sum(line.height for line in lines)
    figure = Figure(figsize=(9.0, height * 0.15), facecolor=LIGHT.background)
    axes = figure.add_axes((0.012, 0.0, 0.976, 1.0))
    axes.set_xlim(-GUTTER, COLUMNS)
    axes.set_ylim(height, 0)
    axes.axis("off")
    _legend(axes)
    top = HEAD
    for line in lines:
        _line(axes, top, line, again, wrong)
        top += line.height
    figure.savefig(path, dpi=150)


def _legend(axes: Axes) -> None:
    heading: dict[str, Any] = {"fontsize": 11, "fontweight": "bold", "va": "center"}
    axes.text(-GUTTER, 0.7, "One rollout, token by token, and encoded again", color=LIGHT.ink, **heading)
    x = 40.0
    for fill, edge, name, width in (
        *((FILLS[owner], "none", name, width) for owner, name, width in NAMES),
        ("white", WRONG, "not what was sampled", 0),
    ):
        _box(axes, x, 0.7, 2, fill, edge)
        axes.text(x + 2.6, 0.7, name, fontsize=7, color=LIGHT.ink, va="center")
        x += width


def _line(axes: Axes, top: float, line: Line, again: Sequence[Token], wrong: set[Token]) -> None:
    for token in line.tokens:
        _token(axes, top, token, line, FILLS[line.segment.owner], "none", LIGHT.ink)
    for token, log_prob in zip(line.tokens, line.log_probs or (), strict=False):
        depth = min(-log_prob, DEEPEST) / DEEPEST * 0.75
        place = (token.start - line.start + 0.15, top + LOG_PROBS)
        axes.add_patch(Rectangle(place, len(token.text) - 0.3, max(depth, 0.05), color=LIGHT.exact_match))
    mask = top + MASK - line.gap
    bar: dict[str, Any] = (
        {"fc": LIGHT.ink, "ec": LIGHT.ink} if line.segment.trained else {"fc": "white", "ec": LIGHT.muted}
    )
    axes.add_patch(Rectangle((0.1, mask), line.end - line.start - 0.2, 0.16, lw=0.5, **bar))
    for token in again:
        if token.end > line.start and token.start < line.end:
            edge, ink = (WRONG, WRONG) if token in wrong else (LIGHT.grid, LIGHT.muted)
            _token(axes, top + AGAIN - line.gap, token, line, "white", edge, ink)
    labels = {"token": top, f"loss mask {int(line.segment.trained)}": mask + 0.05}
    labels |= {"encoded again": top + AGAIN - line.gap} | ({"−log p": top + LOG_PROBS + 0.25} if line.log_probs else {})
    for label, y in labels.items():
        axes.text(-0.8, y, label, fontsize=6, color=LIGHT.muted, ha="right", va="center")


def _token(axes: Axes, y: float, token: Token, line: Line, fill: str, edge: str, ink: str) -> None:
    """The part of a token that lies on the line."""
    start, end = max(token.start, line.start), min(token.end, line.end)
    _box(axes, start - line.start, y, end - start, fill, edge)
    for place in range(start, end):
        character = token.text[place - token.start].replace("\n", "↵")
        axes.text(
            place - line.start + 0.5,
            y,
            character,
            color=ink,
            fontsize=7.9,
            family="monospace",
            ha="center",
            va="center",
        )


def _box(axes: Axes, x: float, y: float, width: float, fill: str, edge: str) -> None:
    box = FancyBboxPatch(
        (x + 0.09, y - 0.55), width - 0.18, 1.1, boxstyle="round,pad=0,rounding_size=0.25", fc=fill, ec=edge, lw=0.9
    )
    axes.add_patch(box)


def shown(rollouts: Sequence[Rollout], codec: TokenCodec) -> Rollout:
    """The shortest that searched once, read of what it was asked about, answered, and has a turn that changes."""

    def rank(rollout: Rollout) -> tuple[bool, bool, int]:
        answered = len(rollout.calls) == 1 and rollout.ending == "answered"
        read = any(passage.title in rollout.question for call in rollout.calls for passage in call.passages)
        return (
            not (answered and read),
            not changed_turns(rollout, codec),
            sum(len(s.tokens) for s in rollout.runs[-1].segments),
        )

    # Part of a character has no width of its own.
    whole = (r for r in rollouts if not any("\ufffd" in s.text for s in r.runs[-1].segments))
    return min(whole, key=rank)


def main(
    folder: Annotated[Path, typer.Argument(help="Keeps the model and its rollouts.")] = Path("runs/token-truth"),
) -> None:
    matplotlib.use("agg")
    rollouts, codec = rollouts_in(folder)
    searching = [rollout for rollout in rollouts if rollout.calls]
    joined = sum(bool(changes(rollout, codec)) for rollout in searching)
    turns = sum(bool(changed_turns(rollout, codec)) for rollout in rollouts)
    draw(shown(rollouts, codec), codec, IMAGE)
    Console().print(
        f"Of {len(rollouts)} rollouts, {turns} have a turn that is other tokens when it is encoded again by itself. Of "
        f"the {len(searching)} that searched, {joined} are other tokens when they are encoded again as a whole."
    )


if __name__ == "__main__":
    typer.run(main)
