"""Thinker–Searcher: a small policy learns when to ask and what; a larger, frozen agent searches and answers it."""

from slime_search.recipes.thinker_searcher.recipe import ThinkerSearcher

__all__ = ["ThinkerSearcher"]
