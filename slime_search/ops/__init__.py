"""What surrounds a training run: checks before it, the processes beside it, its checkpoints."""
