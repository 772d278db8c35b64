"""The Searcher as a service over HTTP."""
