"""CoDA: one model plans and executes, and is trained in both roles (arXiv 2512.12716)."""

from slime_search.recipes.coda.recipe import Coda, CodaConfig

__all__ = ["Coda", "CodaConfig"]
