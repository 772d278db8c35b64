"""Data sets on their way into training files."""
