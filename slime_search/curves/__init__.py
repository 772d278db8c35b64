"""Curves of finished and running trainings, from what they leave on the disk."""
