"""An index that can't be used."""

from slime_search.retrieval.errors import SetupError


class VectorIndexError(SetupError):
    """The message names the file or the argument, the numbers, and the fix."""
