"""Encoders and indexes in many processes, on one machine or many, through Ray Serve."""
