"""The one error of a download."""


class DownloadError(Exception):
    """Something can't be had; the message says why and what to do."""
