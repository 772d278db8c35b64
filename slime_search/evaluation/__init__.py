"""Scores on test sets with their uncertainty, and paired comparisons of two evaluations."""
