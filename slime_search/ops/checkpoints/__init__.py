"""Checkpoints of a training: the newest are kept, pushed to the Hub, and found again after whatever happened."""
