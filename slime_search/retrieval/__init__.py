"""A retrieval server that speaks Search-R1's ``/retrieve`` protocol.

Nothing here imports anything else of slime_search.
"""
