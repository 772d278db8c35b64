"""Names of the files in a store."""

VECTORS = "vectors.npy"
"""float16, shape (count, dimension)."""
BYTES = "bytes.npy"
"""int8, the same shape."""
SCALE = "scale.npy"
"""float32, shape (2, dimension): centre and step."""


def shard_name(number: int, of: int) -> str:
    """FAISS's codes of one shard."""
    return f"codes-{number:05d}-of-{of:05d}.faiss"
