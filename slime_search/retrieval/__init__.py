"""A retrieval server that speaks Search-R1's ``/retrieve`` protocol; of the package it needs no agent and no slime."""
