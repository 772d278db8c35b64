"""The embedded default: the whole product on one CPU, no downloads."""
