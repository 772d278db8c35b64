"""Opens an index, whatever it is, and imports only what that kind needs."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from slime_search.retrieval.vectors.errors import VectorIndexError
from slime_search.retrieval.vectors.part import Part
from slime_search.retrieval.vectors.vector_index import Quantization, VectorIndex


def open_index(
    path: Path,
    *,
    device: str = "cpu",
    part: Part | None = None,
    quantization: Quantization = Quantization.AUTO,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> VectorIndex:
    """Opens a FAISS index file or a store that ``slime-search build-index`` built.

    Uncompressed vectors stay in their file, mapped into memory, and are searched exactly, on a CPU (``"cpu"``) or
    spread over all visible GPUs (``"cuda"``). ``part`` opens only that share of them; hits are positions in the whole.
    ``quantization`` is theirs while they are scanned; other indexes have their own.
    Reading many vectors takes a while; ``on_progress`` is told how many are read, and how many there are.

    Raises:
        VectorIndexError: it can't be served; the message names the file, the numbers and the fix.
    """
    missing = [name for name in ("torch", "faiss") if importlib.util.find_spec(name) is None]
    if missing:
        raise VectorIndexError(
            f"{path}: {' and '.join(missing)} not installed; run: pip install 'slime-search[retrieval]'"
        )
    try:
        return _open_file(path, device, part, quantization, on_progress)
    except OSError as error:
        raise VectorIndexError(f"{path}: {error.strerror}; name a FAISS index or a store of `build-index`") from None


def _open_file(
    path: Path,
    device: str,
    part: Part | None,
    quantization: Quantization,
    on_progress: Callable[[int, int], object],
) -> VectorIndex:
    from slime_search.retrieval.vectors.devices import devices_of
    from slime_search.retrieval.vectors.faiss_index import FaissIndex, refuse_other_metrics
    from slime_search.retrieval.vectors.flat import open_exact
    from slime_search.retrieval.vectors.flat_file import map_flat, read_flat_header
    from slime_search.retrieval.vectors.store import open_store

    if path.is_dir():
        return open_store(path, device=device, part=part, quantization=quantization, on_progress=on_progress)
    header = read_flat_header(path)
    if header is None:
        if part is not None:
            raise VectorIndexError(f"{path}: only uncompressed vectors and stores can be opened in parts")
        return FaissIndex.open(path)
    refuse_other_metrics(path, header.metric)
    if header.count == 0:
        raise VectorIndexError(f"{path}: holds no vectors; build it again from a corpus with passages")
    rows = part.rows(header.count) if part is not None else range(header.count)
    vectors = map_flat(path, header)[rows.start : rows.stop]
    return open_exact(
        vectors,
        str(path),
        devices=devices_of(device),
        quantization=quantization,
        first_row=rows.start,
        on_progress=on_progress,
    )
