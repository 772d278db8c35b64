"""Thinker–Searcher: a small policy learns when to ask and what; a larger, frozen agent searches and answers it.

The Searcher's prompt is in ``prompt.py``; the Thinker is asked as Search-R1 is, by ``data/prompts.py``.
"""

from slime_search.recipes.thinker_searcher.recipe import ThinkerSearcher

__all__ = ["ThinkerSearcher"]
