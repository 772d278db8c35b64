"""Search with online distillation: a teacher, of any tokenizer, scores each token that the policy wrote."""

from slime_search.recipes.distillation.recipe import SearchDistillation, SearchTool

__all__ = ["SearchDistillation", "SearchTool"]
