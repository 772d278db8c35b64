"""Search with online distillation: a teacher, of any tokenizer, scores each token that the policy wrote.

What the policy is asked stands in ``data/prompts.py``, since training files hold it.
"""

from slime_search.recipes.distillation.recipe import SearchDistillation, SearchTool

__all__ = ["SearchDistillation", "SearchTool"]
