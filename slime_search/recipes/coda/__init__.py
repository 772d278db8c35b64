"""CoDA: one model plans and executes, and is trained in both roles (arXiv 2512.12716)."""

from slime_search.recipes.coda.config import CodaConfig
from slime_search.recipes.coda.recipe import Coda

__all__ = ["Coda", "CodaConfig"]
