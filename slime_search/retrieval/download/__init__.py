"""Downloads what Search-R1 has published: Wikipedia of 2018 as a corpus, and its index.

Whatever was written before a kill is kept, and the same call goes on from there.
"""
