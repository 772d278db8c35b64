"""Token in, token out: clients of the inference servers."""
