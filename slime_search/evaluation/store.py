"""The folder of one evaluation, from which it goes on after a kill at any moment."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson

from slime_search.errors import ConfigError, DataError
from slime_search.evaluation.scores import check_score
from slime_search.evaluation.target import Target
from slime_search.files import write_text, written_whole
from slime_search.hooks.facts import RolloutFacts
from slime_search.recipes.base import recipe_in
from slime_search.records.rollout import Rollout, facts_of_row


def settings_of(
    target: Target,
    *,
    weights: Sequence[Path],
    own_services: bool,
    questions: Mapping[str, str],
    samples: int,
    temperature: float,
    turn_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """The settings of an evaluation.

    Args:
        weights: folders of the models that we serve ourselves, whose bytes count. Of a running server, for which there
            are none, address and model name do.
        own_services: retriever and Searcher are ours, too, as a quickstart's, and their addresses count for nothing.
        questions: what tells each data set's from others.
    """
    recipe = recipe_in(target.recipe)
    overlay = getattr(target.args, "slime_search", None)
    config = recipe.config(overlay).model_dump(mode="json") if recipe is not None else {}
    if own_services:
        _drop_ports(config)
    return {
        "recipe": target.name,
        "engine": {folder.name: weights_digest(folder) for folder in weights} or _engine_of(target),
        "data_sets": dict(questions),
        "samples": samples,
        "temperature": temperature,
        "turn_tokens": turn_tokens,
        "seed": seed,
        "config": config,
    }


def weights_digest(folder: Path) -> str:
    """A hash of the weights in ``folder``."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256 {whole.hexdigest()[:16]}"


def _engine_of(target: Target) -> dict[str, Any]:
    endpoint = target.args.endpoint
    return {
        "url": endpoint.url,
        "protocol": endpoint.protocol,
        "model": endpoint.model,
        "tokenizer": target.args.hf_checkpoint,
    }


def _drop_ports(config: dict[str, Any]) -> None:
    """Leaves the addresses of servers out that live only as long as one process evaluates."""
    config["local"].pop("search_url")
    config.pop("searcher_url", None)


class Store:
    """The files of one evaluation. ``rollouts.jsonl`` gets a line as each rollout finishes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rollouts = folder / "rollouts.jsonl"
        self.settings = folder / "settings.json"
        self.summary = folder / "summary.json"
        self.table = folder / "table.md"

    @contextmanager
    def writing(self, settings: Mapping[str, Any], *, fresh: bool) -> Iterator["Writing"]:
        """Begins, or goes on with an evaluation of the same settings, whose finished rollouts are kept.

        Args:
            fresh: remove what is there.

        Raises:
            ConfigError: another evaluation is there, one is writing there now, or it can't be written.
            DataError: ``rollouts.jsonl`` holds something else than rollouts, or ``settings.json`` than settings.
        """
        with self._lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"{self.folder}: another evaluation is writing there; wait, or name another"
                ) from None
            for path in (self.settings, self.rollouts) if fresh else ():
                path.unlink(missing_ok=True)
            # As it will be read again.
            self._agree_on(json.loads(json.dumps(settings)))
            for path in (self.summary, self.table):
                path.unlink(missing_ok=True)
            kept = self._kept()
            with self.rollouts.open("ab") as file:
                yield Writing(file, kept)

    def _lock(self) -> TextIO:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return (self.folder / ".lock").open("w")
        except OSError as error:
            raise ConfigError(f"--output {self.folder}: {error.strerror}; name a folder that can be written") from None

    def finished(self) -> list[RolloutFacts]:
        """Every rollout that is there, a torn last line left out.

        Raises:
            DataError: there is none, or a line is no rollout.
        """
        if not self.rollouts.exists():
            raise DataError(f"{self.folder}: no evaluation is there; make one with slime-search evaluate --output")
        return [facts for _, facts in self._lines()]

    def finish(self, summary: Mapping[str, Any], table: str) -> None:
        """Leaves the results."""
        write_text(self.summary, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        write_text(self.table, table)

    def _agree_on(self, settings: Mapping[str, Any]) -> None:
        if self.settings.exists():
            if changed := differences(self._found_settings(), settings):
                raise ConfigError(
                    f"{self.folder} holds an evaluation with other settings: {'; '.join(changed)}. Name another "
                    "--output, or start it again with --fresh. (Where only a server has moved, change its address in "
                    "settings.json.)"
                )
        elif self.rollouts.exists():
            raise ConfigError(f"{self.folder}: rollouts.jsonl without settings.json; start again with --fresh")
        else:
            write_text(self.settings, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")

    def _found_settings(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self.settings.read_text())
        except ValueError as error:
            raise DataError(f"{self.settings}: not JSON ({error}); mend it, or start again with --fresh") from None
        if not isinstance(found, dict):
            raise DataError(f"{self.settings}: {found!r} are no settings; start again with --fresh")
        return found

    def _kept(self) -> list[RolloutFacts]:
        """The finished rollouts. Failed ones, and a torn last line, leave the file, so that they are made again."""
        if not self.rollouts.exists():
            return []
        kept = []
        with written_whole(self.rollouts) as new, new.open("wb") as file:
            for line, facts in self._lines():
                if facts.is_scored:
                    file.write(line)
                    kept.append(facts)
        return kept

    def _lines(self) -> Iterator[tuple[bytes, RolloutFacts]]:
        with self.rollouts.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    return
                try:
                    facts = facts_of_row(orjson.loads(line))
                    check_score(facts)
                except (orjson.JSONDecodeError, DataError) as error:
                    raise DataError(f"{self.rollouts}, line {number}: not a rollout ({error})") from None
                yield line, facts


class Writing:
    """An evaluation under way. ``finished`` are the rollouts in its file."""

    def __init__(self, file: BinaryIO, finished: list[RolloutFacts]) -> None:
        self._file = file
        self.finished = finished

    def add(self, rollout: Rollout) -> RolloutFacts:
        self._file.write(rollout.line())
        # A killed process takes along what it holds itself, not what the system has.
        self._file.flush()
        self.finished.append(rollout.facts)
        return rollout.facts


def differences(before: Mapping[str, Any], now: Mapping[str, Any], above: str = "") -> list[str]:
    """Which settings differ, with both values."""
    changed = []
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += differences(old, new, f"{above}{key}.")
        elif old != new:
            changed.append(f"{above}{key} was {json.dumps(old)} and is {json.dumps(new)}")
    return changed
