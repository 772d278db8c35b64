"""A local web page over rollouts: a list with filters, every token of each, two checkpoints side by side."""
