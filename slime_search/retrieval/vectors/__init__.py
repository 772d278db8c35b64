"""Indexes over the vectors of passages."""
