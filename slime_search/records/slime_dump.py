"""Reads what slime's ``--save-debug-rollout-data`` wrote, without running anything that is in it."""

import math
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from slime_search.errors import ConfigError, DataError
from slime_search.hooks.contract import LocalSample

DUMP_NAME = re.compile(r".*?(?P<eval>eval_)?(?P<step>\d+)\.pt")
"""slime fills ``{rollout_id}`` with ``12`` or ``eval_12``; what stands before it is the user's."""

ALLOWED = frozenset(
    {
        # As old pickle protocols write bytes.
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch", "Size"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    }
)
"""What a dump may name beside plain values: what tensors and arrays are made of, which runs nothing of the file's."""


class _Unpickler(pickle.Unpickler):
    """Refuses everything else by its name, before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def written(dumps: Sequence[Path], console: Console) -> list[Path]:
    """The dumps of a folder, without the newest where it is half a file as a run goes on, which the console says."""
    newest = max(dumps, key=lambda path: path.stat().st_mtime_ns)
    # What is_zipfile looks for is written last.
    if len(dumps) == 1 or zipfile.is_zipfile(newest):
        return list(dumps)
    console.print(f"{newest} is still being written and left out", markup=False, soft_wrap=True)
    return [path for path in dumps if path != newest]


def read_samples(path: Path, *, reward_key: str | None = None) -> list[LocalSample]:
    """The samples of one dump, of any slime: fields that its ``Sample`` lacks have their defaults.

    Args:
        reward_key: slime's ``--reward-key``, where rewards are dicts.

    Raises:
        ConfigError: torch is not installed.
        DataError: it is no dump, holds objects that are more than data, or a sample can't be read; the message names
            it.
    """
    return [_sample(row, reward_key, f"{path}, sample {index}") for index, row in enumerate(_rows(path))]


_FIELDS = frozenset(field.name for field in fields(LocalSample))


def _sample(row: Mapping[str, Any], reward_key: str | None, where: str) -> LocalSample:
    values = {name: _plain(value) for name, value in row.items() if name in _FIELDS}
    reward: Any = values.get("reward")
    if isinstance(reward, Mapping):
        if reward_key not in reward:
            keys = ", ".join(map(str, reward))
            raise DataError(f"{where}: the reward is a dict of {keys}; name one with --reward-key, as for slime")
        reward = reward[reward_key]
    # A reward that is no finite number is in no mean, and counts among those that are missing.
    values["reward"] = reward if isinstance(reward, int | float) and math.isfinite(reward) else None
    try:
        values["status"] = LocalSample.Status(row.get("status", "pending"))
    except ValueError:
        known = ", ".join(status.value for status in LocalSample.Status)
        raise DataError(f"{where}: status {row['status']!r} is not one of {known}") from None
    values["metadata"] = values.get("metadata") or {}
    return LocalSample(**values)


def _plain(value: Any) -> Any:
    """Tensors and arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def _rows(path: Path) -> list[dict[str, Any]]:
    """The samples as ``Sample.to_dict`` made them.

    torch's own ``weights_only`` does the same in Python, and takes thirteen times as long for lists of tokens.
    """
    try:
        import torch
    except ImportError:
        raise ConfigError(f"{path}: torch not installed, which reads dumps. Run: pip install torch") from None

    _check_format(path)
    reader: Any = ModuleType(__name__)
    reader.Unpickler = _Unpickler
    try:
        # Tensors, such as routed experts, stay on the disk until somebody looks.
        dump = torch.load(path, map_location="cpu", mmap=True, weights_only=False, pickle_module=reader)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: holds an object of {error}, which is more than data and is not loaded; keep plain values in "
            "sample.metadata and sample.label"
        ) from None
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); was it still being written?") from None
    samples = dump.get("samples") if isinstance(dump, dict) else None
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise DataError(f"{path}: has no list of samples; name a dump of --save-debug-rollout-data")
    return samples


def _check_format(path: Path) -> None:
    """torch reads older formats and programs from other files, which are not expected here."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise DataError(f"{path}: not a whole file of torch.save; name a dump of --save-debug-rollout-data") from None
    if any(name.endswith("constants.pkl") for name in names):
        raise DataError(f"{path}: a TorchScript program; name a dump of --save-debug-rollout-data")
