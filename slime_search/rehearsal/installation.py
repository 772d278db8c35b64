"""What a rehearsal needs beside this package: slime, Megatron-LM and a Python with their packages and SGLang.

Everything is looked at before anything is started, since a missing package would else show itself minutes later and in
the log of one of Ray's workers.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slime_search.errors import ConfigError

SLIME_HOME, MEGATRON_HOME = "SLIME_HOME", "MEGATRON_HOME"
SLIME_PYTHON, SGLANG_PYTHON = "SLIME_PYTHON", "SGLANG_PYTHON"
_PATCH = Path("docker/patch/latest/megatron.patch")
_TRAINS = "torch ray sglang transformers httpx omegaconf pyarrow numpy datasets tensorboard".split()
_HOOKS = "aiohttp aiolimiter orjson pydantic pydantic_settings rich tenacity typer".split()
_SERVES = "torch sglang sglang_router".split()
_ASK = """
import importlib.metadata, importlib.util, json, sys
found = {name: importlib.util.find_spec(name) is not None for name in sys.argv[1:]}
versions = {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow") if found.get(name)}
print(json.dumps({"missing": [name for name, there in found.items() if not there], "versions": versions}))
"""
_ASK_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Installation:
    """Where slime, Megatron-LM and the Pythons are.

    ``slime_python`` runs slime's train.py with the hooks in it, ``sglang_python`` the engine and the router. They are
    usually one and the same.
    """

    slime_home: Path
    megatron_home: Path
    slime_python: Path
    sglang_python: Path

    def check(self) -> None:
        """Looks whether all of it is there.

        Raises:
            ConfigError: something is missing; the message names the variable and what to do.
        """
        _check_slime(self.slime_home)
        _check_megatron(self.megatron_home, self.slime_home)
        _check_packages(SGLANG_PYTHON, self.sglang_python, _SERVES)
        versions = _check_packages(SLIME_PYTHON, self.slime_python, (*_TRAINS, *_HOOKS))
        _check_versions(self.slime_python, versions)


def installation(environment: Mapping[str, str], **given: Path | None) -> Installation:
    """The installation that options or, where they are None, environment variables name.

    Args:
        given: ``slime_home``, ``megatron_home``, ``slime_python`` and ``sglang_python``. Of the last two each stands in
            for the other.

    Raises:
        ConfigError: one is named by neither.
    """

    def named(variable: str) -> Path | None:
        value = given.get(variable.lower()) or environment.get(variable)
        return Path(value).expanduser().absolute() if value else None

    slime_home, megatron_home = named(SLIME_HOME), named(MEGATRON_HOME)
    slime_python = named(SLIME_PYTHON) or named(SGLANG_PYTHON)
    if slime_home is None:
        raise ConfigError(f"{SLIME_HOME}: not set", "name a checkout of slime")
    if megatron_home is None:
        raise ConfigError(
            f"{MEGATRON_HOME}: not set", "name a checkout of Megatron-LM at the commit in slime's Dockerfile, patched"
        )
    if slime_python is None:
        raise ConfigError(
            f"{SGLANG_PYTHON}: not set", "name a Python that has sglang and slime's packages; see docs/rehearsal.md"
        )
    return Installation(slime_home, megatron_home, slime_python, named(SGLANG_PYTHON) or slime_python)


def _check_slime(home: Path) -> None:
    for part in ("train.py", "slime/ray/rollout.py"):
        if not (home / part).is_file():
            raise ConfigError(f"{SLIME_HOME}: {home} has no {part}", "name a checkout of slime")


def _check_megatron(home: Path, slime_home: Path) -> None:
    if not (home / "megatron/core/transformer").is_dir():
        raise ConfigError(f"{MEGATRON_HOME}: {home} has no megatron/core", "name a checkout of Megatron-LM")
    patch = slime_home / _PATCH
    missing = next(_unpatched(home, patch), None) if patch.is_file() else None
    if missing is not None:
        raise ConfigError(
            f"{MEGATRON_HOME}: {home}/{missing} is not as slime's patch leaves it",
            f"check out the commit that {slime_home}/docker/Dockerfile names and run: git -C {home} apply {patch}",
        )


def _unpatched(home: Path, patch: Path) -> Iterator[str]:
    """The files that lack a line which the patch adds."""
    added: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in patch.read_text(errors="replace").splitlines():
        if line.startswith("+++ b/"):
            lines = added.setdefault(line.removeprefix("+++ b/").strip(), [])
        elif line.startswith("+") and line[1:].strip():
            lines.append(line[1:].strip())
    for name, wanted in added.items():
        path = home / name
        there = set(map(str.strip, path.read_text(errors="replace").splitlines())) if path.is_file() else set()
        if not there.issuperset(wanted):
            yield name


def _check_packages(variable: str, python: Path, packages: Sequence[str]) -> dict[str, str]:
    """The versions of numpy and pyarrow in ``python``, where it has all ``packages``."""
    if not python.is_file():
        raise ConfigError(f"{variable}: there is no {python}", "name a Python")
    try:
        asked = subprocess.run(
            [str(python), "-c", _ASK, *packages], capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=True
        )
        answer = json.loads(asked.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise ConfigError(f"{variable}: {python} does not run ({error})", "name a Python 3.11 or newer") from None
    if answer["missing"]:
        names = ", ".join(answer["missing"])
        raise ConfigError(f"{variable}: {python} lacks {names}", "install what docs/rehearsal.md lists")
    versions: dict[str, str] = answer["versions"]
    return versions


def _check_versions(python: Path, versions: Mapping[str, str]) -> None:
    """Megatron asserts NumPy 1, and newer versions of pyarrow can't be imported beside that."""
    limits = {"numpy": 2, "pyarrow": 26}
    for name, limit in limits.items():
        version = versions.get(name, "0")
        if int(version.partition(".")[0]) >= limit:
            raise ConfigError(
                f"{SLIME_PYTHON}: {python} has {name} {version}, and Megatron needs NumPy 1",
                "run: pip install 'numpy<2' 'pyarrow<26'",
            )
