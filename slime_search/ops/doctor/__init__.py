"""Checks a whole set-up before a GPU hour is spent on it. Each file but the core ones is a topic of checks."""
