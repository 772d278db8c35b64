"""The configuration of a recipe with a teacher."""

from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from slime_search.config import SearchConfig, Section, listed
from slime_search.validation import check_http_url


class TeacherConfig(Section):
    """The model that is learned from, and how it is asked."""

    url: str | tuple[str, ...] = "http://127.0.0.1:15555"
    """Base URL of a server, without ``/v1``, or several that share the load: as a list, or with commas between them."""
    api: Literal["auto", "sglang", "vllm", "echo"] = "auto"
    """Where the server tells the log-probabilities of a prompt: SGLang's ``/generate``, vLLM's ``prompt_logprobs``, or
    OpenAI's ``echo``. "auto" tries them in this order, once."""
    model: str | None = None
    """The model's name in requests; None takes the first of ``/v1/models``. SGLang's ``/generate`` needs none."""
    tokenizer: str | None = None
    """The teacher's checkpoint, a folder or a name on the Hub, for its tokenizer and its chat template. None says that
    it has the policy's own tokenizer: it is then sent the policy's own tokens."""
    template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """For the teacher's chat template, such as ``{"enable_thinking": False}``."""
    api_key: SecretStr | None = None
    """The server's bearer token; better given as the environment's SLIME_SEARCH_TEACHER__API_KEY."""
    concurrency: int = Field(32, ge=1)
    """Requests to the teacher at most, in this process."""
    batch_size: int = Field(8, ge=1)
    """Trajectories a request at most; those that wait while all requests are on their way go together."""
    timeout_s: float = Field(600.0, gt=0)
    """Seconds to wait for the teacher, each attempt."""
    attempts: int = Field(4, ge=1)
    """Attempts a request before the sample does without the teacher; none follows after ``timeout_s``."""
    cache_tokens: int = Field(1_000_000, ge=0)
    """Tokens whose log-probabilities are kept, for trajectories that begin alike; some 20 bytes each. 0 keeps none."""
    clip: float | None = Field(None, gt=0)
    """Nats by which student and teacher may differ at a token, more is cut off. None for no limit."""
    disagreements: int = Field(8, ge=0)
    """Tokens a trajectory at which they differ most, kept in its record for reports."""
    max_failure_share: float = Field(0.5, ge=0, le=1)
    """The run stops when the teacher failed for more than this share of a rollout's trajectories."""

    @property
    def urls(self) -> tuple[str, ...]:
        """One base URL or more."""
        return tuple(url.removesuffix("/v1").rstrip("/") for url in listed(self.url))

    @field_validator("url")
    @classmethod
    def _are_http_urls(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value:
            raise ValueError("name at least one URL, such as http://127.0.0.1:15555")
        for url in listed(value):
            check_http_url(url)
        return value


_OTHER_NAMES = {"search_topk": "topk", "search_timeout": "search_timeout_s"}


class SearchToolConfig(SearchConfig):
    """A search tool as agent frameworks describe it.

    ``retrieval_service_url``, ``search_topk``, ``search_timeout`` and ``max_steps`` are other names of
    ``local.search_url``, ``topk``, ``search_timeout_s`` and, with the turn that answers, ``max_turns + 1``. Where both
    are given, as by the environment, those of this package win.
    """

    max_turns: int = Field(9, ge=0)
    """Turns that call the tool; a turn to answer always follows the last one, so 9 are 10 steps."""
    topk: int = Field(5, ge=1)
    """Passages a query."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for other, name in _OTHER_NAMES.items():
            if other in data:
                data.setdefault(name, data.pop(other))
        if "max_steps" in data:
            steps = data.pop("max_steps")
            if not isinstance(steps, int) or steps < 1:
                raise ValueError(f"max_steps = {steps!r}: write the number of turns, at least 1, the answer included")
            data.setdefault("max_turns", steps - 1)
        if "retrieval_service_url" in data:
            url, local = data.pop("retrieval_service_url"), data.get("local", {})
            # What is no section is left for the check of ``local`` to name.
            data["local"] = {"search_url": url, **local} if isinstance(local, dict) else local
        return data


class DistillConfig(SearchToolConfig):
    """A search tool and a teacher."""

    teacher: TeacherConfig = TeacherConfig()

    @model_validator(mode="after")
    def _has_log_probs(self) -> "DistillConfig":
        if not self.return_logprob:
            raise ValueError(
                "return_logprob = False: a token that the teacher says nothing of keeps the policy's own "
                "log-probability, so they must be asked for; set it to True"
            )
        return self
