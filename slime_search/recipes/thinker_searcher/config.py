"""The configuration of Thinker and Searcher, which the training and the service both read."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from slime_search.config import SearchConfig, listed
from slime_search.core.agent import Budget
from slime_search.recipes.thinker_searcher.prompt import QUESTION, SEARCHER_PROMPT
from slime_search.validation import check_http_url


class ThinkerConfig(SearchConfig):
    """The keys that every recipe has are the Thinker's, but for those of searching, which are the Searcher's.

    So ``local``, ``google``, ``topk`` and the other ``search_…`` keys say where the Searcher searches.
    """

    thinker_max_turns: int = Field(2, ge=0)
    """Questions that the Thinker may delegate; a turn to answer always follows the last one."""
    searcher_max_turns: int = Field(3, ge=0, le=32)
    """Searches that the Searcher may make for one question; a turn to answer always follows the last one."""
    searcher_url: str | tuple[str, ...] = "http://127.0.0.1:8001/search"
    """A Searcher service's URL, or several: as a list, or with commas between them. ``/search`` is added where there is
    no path."""
    searcher_model: str | None = None
    """The name of a second, frozen model in slime's --sglang-config. The Searcher then runs beside the Thinker, on that
    model's router, and no service is needed."""
    searcher_checkpoint: str | None = None
    """The Hugging Face folder with that model's tokenizer."""
    searcher_timeout_s: float = Field(600.0, gt=0)
    """Seconds to wait for the Searcher service's answer, each attempt: a whole session, not one turn of it."""
    searcher_attempts: int = Field(3, ge=1)
    """Attempts a question before the sample fails; none follows after ``searcher_timeout_s``. The service retries its
    retriever and its engine by itself."""
    searcher_concurrency: int = Field(256, ge=1)
    """Questions at the Searcher at most, in this process."""
    searcher_prompt: str = SEARCHER_PROMPT
    """What the Searcher is asked, with ``{question}`` for the question and ``{searches}`` for its searches."""
    searcher_turn_tokens: int = Field(400, ge=1)
    """Tokens that the Searcher may write in one turn."""
    searcher_observation_tokens: int = Field(768, ge=16)
    """Tokens of a search's result that it reads; cut at a passage."""
    searcher_context_tokens: int | None = Field(None, ge=64)
    """Tokens of its prompt and response together. None for no limit but the engine's."""
    searcher_temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token each time, so that equal questions get equal answers."""
    log_turns: bool = False
    """Log every turn of every Thinker. Else there is one line a minute at most."""

    @property
    def searcher_urls(self) -> tuple[str, ...]:
        """One URL or more, each with a path."""
        return listed(self.searcher_url, path="/search")

    @property
    def searcher_budget(self) -> Budget:
        """The limits of one question's session."""
        return Budget(
            tool_turns=self.searcher_max_turns,
            corrections=self.max_corrections,
            turn_tokens=self.searcher_turn_tokens,
            observation_tokens=self.searcher_observation_tokens,
            context_tokens=self.searcher_context_tokens,
        )

    @field_validator("searcher_url")
    @classmethod
    def _are_http_urls(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value:
            raise ValueError("name at least one URL, such as http://127.0.0.1:8001/search")
        for url in listed(value):
            check_http_url(url)
        return value

    @field_validator("searcher_prompt")
    @classmethod
    def _has_its_placeholder(cls, value: str) -> str:
        if value.count(QUESTION) != 1:
            raise ValueError(f"write {QUESTION} in it, once")
        return value

    @model_validator(mode="after")
    def _each_limit_has_one_name(self) -> Self:
        if "max_turns" in self.model_fields_set:
            raise ValueError("max_turns: this recipe has two of them; set thinker_max_turns and searcher_max_turns")
        if self.searcher_model is not None and self.searcher_checkpoint is None:
            raise ValueError(
                f"searcher_checkpoint: searcher_model is {self.searcher_model!r}; name the folder with its tokenizer"
            )
        return self
