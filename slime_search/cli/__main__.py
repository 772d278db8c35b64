"""``python -m slime_search.cli``, for scripts that have to use a certain Python."""

from slime_search.cli.main import app

app()
