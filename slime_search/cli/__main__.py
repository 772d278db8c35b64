"""``python -m slime_search.cli``, for scripts that must use the Python they were told of."""

from slime_search.cli.main import app

app()
