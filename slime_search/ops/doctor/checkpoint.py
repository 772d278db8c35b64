"""What a Hugging Face folder says about its model, without loading it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
_SINGLE = ("model.safetensors", "pytorch_model.bin")


class CheckpointError(Exception):
    """The folder can't be trained from; the message names it and the fix."""


class Checkpoint(NamedTuple):
    architecture: str
    weight_bytes: int
    parameters: int
    """Counted from the files' size and the numbers' type."""
    vocabulary: int | None
    positions: int | None
    """The longest context that the model was made for."""


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises CheckpointError."""
    config = _read_json(folder / "config.json", folder)
    weights = _weights(folder)
    size = sum(file.stat().st_size for file in weights)
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16").removeprefix("torch.")
    return Checkpoint(
        architecture=", ".join(config.get("architectures") or ["unknown architecture"]),
        weight_bytes=size,
        parameters=size // _BYTES.get(dtype, 2),
        vocabulary=config.get("vocab_size"),
        positions=config.get("max_position_embeddings"),
    )


def _weights(folder: Path) -> list[Path]:
    for name in _SINGLE:
        index = folder / f"{name}.index.json"
        if index.is_file():
            weight_map = _read_json(index, folder).get("weight_map")
            files = [folder / file for file in sorted(set(weight_map.values() if isinstance(weight_map, dict) else ()))]
            if missing := [file.name for file in files if not file.is_file()]:
                raise CheckpointError(f"{folder} lacks {', '.join(missing)}")
            return files
        if (folder / name).is_file():
            return [folder / name]
    raise CheckpointError(f"{folder} has no {' or '.join(_SINGLE)}")


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError:
        raise CheckpointError(f"{folder} has no {path.name}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content
