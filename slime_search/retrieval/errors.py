"""Why a server can't be started."""

from slime_search.errors import SlimeSearchError


class SetupError(SlimeSearchError, ValueError):
    """What is to be served can't be; the message names the file or option, its value and the fix."""


class DownloadError(SlimeSearchError):
    """Something can't be had; the message says why and what to do."""


class VectorIndexError(SetupError):
    """The message names the file or the argument, the numbers, and the fix."""


class CorpusError(SetupError):
    """A corpus file can't be served; the message names the file, the line and the fix."""
