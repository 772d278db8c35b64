"""Runs a training beside the services that it needs, in one tmux session."""
