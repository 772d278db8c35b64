"""HTTP as every part of the package uses it: a client with retries, replicas, serving, middleware."""
