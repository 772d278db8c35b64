"""Building stores of vectors: ``slime-search build-index``."""
