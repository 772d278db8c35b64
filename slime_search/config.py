"""The typed configuration of a search recipe.

It is read from the example's plain dict, then from ``slime_search: {…}`` in slime's ``--custom-config-path`` YAML, then
from the environment (``SLIME_SEARCH_TOPK=5``, ``SLIME_SEARCH_LOCAL__SEARCH_URL=…``); the later one wins, key by key.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from slime_search.errors import ConfigError
from slime_search.validation import check_http_url, reason

ENV_PREFIX = "SLIME_SEARCH_"
RETRIEVER_TOKEN = "SLIME_SEARCH_RETRIEVER_TOKEN"
"""The environment variable with the bearer token of a retrieval server, there and here."""
RED_PREFIX = f"{ENV_PREFIX}RED__"
"""Environment variables of RED's own settings begin so."""
PLACEHOLDER_KEY = "your_api_key_here"


class _KnownKeys(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(cls.model_fields)}"
                raise ValueError(f"unknown key {key!r}; {hint}")
        return data


class Section(_KnownKeys):
    """A part of a recipe's configuration that has a name of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class LocalConfig(Section):
    """Retrieval servers."""

    search_url: str | tuple[str, ...] = "http://127.0.0.1:8000/retrieve"
    """A server's URL, or several: as a list, or in one text with commas between them. ``/retrieve`` is added where
    there is no path. Searches are shared among the servers, and go to the others when one fails."""
    proxy: str | None = None
    """URL of an HTTP proxy."""

    @property
    def search_urls(self) -> tuple[str, ...]:
        """One URL or more, each with a path."""
        return listed(self.search_url, path="/retrieve")

    @field_validator("search_url")
    @classmethod
    def _are_http_urls(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value:
            raise ValueError("name at least one URL, such as http://127.0.0.1:8000/retrieve")
        for url in listed(value):
            check_http_url(url)
        return value

    @field_validator("proxy")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_http_url(value)
        return value


def listed(urls: str | tuple[str, ...], *, path: str = "") -> tuple[str, ...]:
    """One URL or more, which may stand in one text with commas between them, without slashes at their ends.

    Args:
        path: is added where a URL has none.

    >>> listed("http://a:8000/, http://b:8000/other/", path="/retrieve")
    ('http://a:8000/retrieve', 'http://b:8000/other')
    """
    bare = [url.strip().rstrip("/") for url in (urls.split(",") if isinstance(urls, str) else urls)]
    return tuple(url if urlsplit(url).path else url + path for url in bare)


class GoogleConfig(Section):
    """Google search through serper.dev."""

    api_key: SecretStr | None = None
    """serper.dev's key; better left out here and given as the environment's SERPER_API_KEY."""
    snippet_only: bool = True
    """Read the snippets of the result page only. False reads the pages, around their snippets."""
    proxy: str | None = None
    """URL of an HTTP proxy, for the search API and the pages."""
    endpoint: str = "https://google.serper.dev/search"
    """Where the search API answers."""
    requests_per_second: float = Field(50.0, gt=0)
    """Requests to the search API a second, in this process; serper.dev's free plan allows 5."""
    cache_days: float = Field(30.0, ge=0)
    """Days that results and pages are kept on disk, where repeated queries cost nothing; 0 keeps none."""
    cache_path: Path | None = None
    """The file they are kept in, on a local disk. None for slime-search/google.sqlite3 in the user's cache folder."""
    page_chars: int = Field(2000, ge=100)
    """Characters of text a page."""
    page_bytes: int = Field(2 << 20, ge=1024)
    """Bytes read of a page at most, decompressed."""
    page_timeout_s: float = Field(10.0, gt=0)
    """Seconds to wait for a page. One that does not come is replaced by its snippet."""
    page_concurrency: int = Field(64, ge=1)
    """Pages on their way at most, in this process."""

    @field_validator("endpoint", "proxy")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_http_url(value)
        return value

    @field_validator("api_key")
    @classmethod
    def _not_the_placeholder(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is not None and value.get_secret_value() in ("", PLACEHOLDER_KEY) else value


class ChatConfig(Section):
    """How the tool-calling recipe talks to the engine; the tag recipe does not read it."""

    token_in: Literal["auto", "input_ids", "generate", "messages"] = "auto"
    """Send held token ids in the chat body, the same over ``/generate``, or messages that the server renders. "auto"
    asks once, through whatever stands there, and takes the first of them that is exact."""
    model: str = "default"
    """The model's name in requests. SGLang takes any; vLLM wants the name that it serves."""
    template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """For the chat template, here and at the server: ``{"enable_thinking": False}``."""
    notation: Literal[
        "auto",
        "hermes",
        "qwen_xml",
        "glm",
        "gpt_oss",
        "deepseek_v31",
        "deepseek_v3",
        "deepseek_v4",
        "gemma4",
        "mistral_json",
        "mistral",
        "kimi",
        "lfm2",
        "minimax",
        "llama",
    ] = "auto"
    """How the model writes calls; docs/tool-calling.md has the table. "auto" takes what its chat template writes."""
    thoughts: Literal["keep", "template"] = "keep"
    """Earlier thoughts in later turns: kept, or as the chat template leaves them when it renders the conversation
    again, as a server of messages does. A turn whose context is cut so begins a further sample of the rollout."""


class RewardConfig(Section):
    """How a finished trajectory is scored."""

    metric: Literal["em", "f1"] = "em"
    """Exact match, or the token-level F1 of SQuAD."""
    no_search_penalty: float = Field(0.0, ge=0)
    """Taken off when the model never searched."""
    no_answer_penalty: float = Field(0.0, ge=0)
    """Taken off when the model never answered. A plain F1 teaches silence; 0.1 of both penalties prevents it."""


class SearchConfig(BaseSettings, _KnownKeys):
    """All settings of a search recipe."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
        nested_model_default_partial_update=True,
        use_attribute_docstrings=True,
    )

    max_turns: int = Field(2, ge=0)
    """Turns that call a tool; a turn to answer always follows the last one. With tags, each holds one search."""
    max_corrections: int = Field(2, ge=0)
    """Turns without a valid action that are answered with the corrective sentence; one more ends the trajectory."""
    topk: int = Field(3, ge=1)
    """Passages a search."""
    search_concurrency: int = Field(256, ge=1)
    """Searches in flight at most, in this process."""
    search_timeout_s: float = Field(60.0, gt=0)
    """Seconds to wait for the search service, each attempt."""
    search_attempts: int = Field(4, ge=1)
    """Attempts a search before the sample fails."""
    search_backend: Literal["local", "google"] = "local"
    """Which section below is used."""
    local: LocalConfig = LocalConfig()
    google: GoogleConfig = GoogleConfig()
    engine_timeout_s: float = Field(1800.0, gt=0)
    """Seconds to wait for the engine, each attempt; a long turn on a busy engine takes minutes."""
    engine_attempts: int = Field(8, ge=1)
    """Attempts a turn before the sample fails. A turn that took ``engine_timeout_s`` and failed is not tried again."""
    max_observation_tokens: int | None = Field(1024, ge=16)
    """Tokens a search result may take; cut at a passage. None for no limit."""
    max_context_tokens: int | None = Field(None, ge=64)
    """Tokens of prompt and response together. None takes slime's --rollout-max-context-len, if that is set."""
    return_logprob: bool = True
    """Ask the engine for log-probabilities. TIS and the trainer's old log-probabilities need them."""
    format_score: float = Field(0.2, ge=0, lt=1)
    """What a well-formed wrong answer earns, and what a right answer loses when it is not well-formed."""
    reward: RewardConfig = RewardConfig()
    chat: ChatConfig = ChatConfig()
    max_failure_share: float = Field(0.5, ge=0, le=1)
    """The run stops when more than this share of a rollout's trajectories died of a service."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


C = TypeVar("C", bound=SearchConfig)


def load_config(
    configs: Mapping[str, Any],
    overlay: Mapping[str, Any] | None = None,
    kind: type[C] = SearchConfig,  # type: ignore[assignment]
) -> C:
    """Validates a recipe's dict, overlaid with ``overlay`` and the environment, as a config of that kind.

    Raises:
        ConfigError: names each offending key, its value and what is allowed.
    """
    if overlay is not None and not isinstance(overlay, Mapping):
        raise ConfigError(f"slime_search = {overlay!r}: write a mapping of keys to values, as in the recipe's dict")
    _refuse_unknown_variables(kind)
    try:
        return kind(**_merged(configs, overlay or {}))
    except ValidationError as error:
        raise ConfigError("\n".join(map(_explain, error.errors(include_url=False)))) from None
    except SettingsError as error:
        raise ConfigError(_explain_unread(error)) from None


def _refuse_unknown_variables(kind: type[SearchConfig]) -> None:
    known = [f"{ENV_PREFIX}{key}".upper() for key in kind.model_fields]
    for name in os.environ:
        if name.startswith(RED_PREFIX):
            continue
        if name.startswith(ENV_PREFIX) and name.partition("__")[0].upper() not in (*known, RETRIEVER_TOKEN):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"environment: unknown variable {name}; {hint}")


def _merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _explain(error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    why = reason(error)
    if not key:
        return f"search config: {why}"
    variable = f"{ENV_PREFIX}{'__'.join(map(str, error['loc']))}".upper()
    name = f"environment, {variable}" if variable in os.environ else f"search config, {key}"
    if "unknown key" in why:
        return f"{name}: {why}"
    shown = "(hidden)" if "key" in key else repr(os.environ.get(variable, error["input"]))
    return f"{name} = {shown}: {why}"


def _explain_unread(error: SettingsError) -> str:
    """Names the variables that hold a section, or a mapping, in another form than JSON."""
    field = re.search(r'field "(\w+)"', str(error))
    stem = f"{ENV_PREFIX}{field[1] if field else ''}".upper()
    named = [name for name in os.environ if name.upper() == stem or name.upper().startswith(f"{stem}__")]
    held = [f"{name} = {'(hidden)' if 'KEY' in name.upper() else repr(os.environ[name])}" for name in sorted(named)]
    return (
        f"environment, {', '.join(held) or stem}: expected are keys with values, written as JSON; or set a section key "
        f"by key, as in {ENV_PREFIX}LOCAL__SEARCH_URL=http://127.0.0.1:8000/retrieve"
    )
