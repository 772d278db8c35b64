"""The Searcher: an agent on a frozen model that answers a Thinker's questions, in process or as a service."""
