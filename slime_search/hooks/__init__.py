"""The only code that knows slime: samples, groups, failures."""
