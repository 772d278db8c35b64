"""Search-R1 with tags: the policy thinks, searches and answers in one context (Jin et al., arXiv 2503.09516)."""

from collections.abc import Mapping
from typing import Any

from slime_search.config import SearchConfig
from slime_search.core.agent import Agent
from slime_search.core.tokens import TokenCodec
from slime_search.dialects.tags import SEARCH_R1_TAGS, TagDialect
from slime_search.hooks.runtime import policy_engine, runtime
from slime_search.hooks.samples import open_trajectory, write_back
from slime_search.recipes.base import Parts, SearchRecipe, budget_of


class SearchR1(SearchRecipe["TagParts"]):
    """The hooks of Search-R1 with ``<search>`` and ``<answer>`` tags.

    A recipe with other tools names their tags in ``format``, and in ``toolbox`` what each calls.
    """

    format: TagDialect = SEARCH_R1_TAGS

    async def generate(self, args: Any, sample: Any, sampling_params: Mapping[str, Any]) -> Any:
        """slime's ``--custom-generate-function-path``: runs or resumes one trajectory and returns ``sample``.

        Raises:
            TooManyFailures: the share of failed trajectories is over ``max_failure_share``.
            ProtocolError: the engine's answers can't be trained on.
        """
        here = runtime(args)
        parts = self._parts(args)
        codec = parts.codec(here.tokenizer)
        trajectory = open_trajectory(sample, codec.prompt)
        known_segments = len(trajectory.segments)
        agent = Agent(parts.engine, self.format, parts.toolbox, codec)
        await agent.run(
            trajectory,
            sampling_params,
            budget_of(args, parts.config, sampling_params),
            session_id=sample.session_id,
            cancelled=here.cancelled,
        )
        write_back(args, sample, trajectory, known_segments=known_segments, with_log_probs=parts.config.return_logprob)
        parts.failures.observe(trajectory)
        return sample

    def _build(self, args: Any, config: SearchConfig) -> "TagParts":
        return TagParts(args, config, self.format)


class TagParts(Parts):
    """With the policy's engine and codec."""

    def __init__(self, args: Any, config: SearchConfig, dialect: TagDialect = SEARCH_R1_TAGS) -> None:
        super().__init__(args, config)
        self._dialect = dialect
        self.engine = policy_engine(args, config)
        self._codec: TokenCodec | None = None

    def codec(self, tokenizer: Any) -> TokenCodec:
        if self._codec is None or self._codec.tokenizer is not tokenizer:
            self._codec = TokenCodec(tokenizer, self._dialect.tags)
        return self._codec
