"""The ``slime-search`` command: a file for each subcommand, which is loaded when it is called."""

from slime_search.cli.main import app

__all__ = ["app"]
