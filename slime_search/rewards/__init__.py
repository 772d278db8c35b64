"""Scores of a finished trajectory, read from its segments."""
