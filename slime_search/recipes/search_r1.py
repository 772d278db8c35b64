"""Search-R1 with tags: the policy thinks, searches and answers in one context (Jin et al., arXiv 2503.09516).

What it is asked stands in ``data/prompts.py``, since training files hold it.
"""

from slime_search.config import SearchConfig
from slime_search.core.agent import Agent
from slime_search.core.tokens import Tokenizer
from slime_search.dialects.tags import SEARCH_R1_TAGS, TagDialect
from slime_search.hooks.contract import Args
from slime_search.recipes.base import PolicyParts, Rollout, SearchRecipe


class SearchR1(SearchRecipe[PolicyParts]):
    """The hooks of Search-R1 with ``<search>`` and ``<answer>`` tags.

    A recipe with other tools names their tags in ``format``, and in ``toolbox`` what each calls.
    """

    format: TagDialect = SEARCH_R1_TAGS

    async def _run(self, parts: PolicyParts, rollout: Rollout) -> None:
        await rollout.run(Agent(parts.engine, self.format, parts.toolbox, parts.codec))

    def _build(self, args: Args, config: SearchConfig, tokenizer: Tokenizer) -> PolicyParts:
        return PolicyParts(args, config, tokenizer, self.format.tags)
