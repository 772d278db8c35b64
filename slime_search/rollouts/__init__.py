"""Rollouts outside training: driven against any engine, and kept as JSON Lines."""
