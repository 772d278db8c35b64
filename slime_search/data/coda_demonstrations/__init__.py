"""Demonstrations for CoDA: runs of planner and executors over real passages, written down as data."""
