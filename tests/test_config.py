"""One configuration from three sources; every mistake is named with its key, its value and the fix."""

import re
from typing import Any

import pytest

from slime_search.config import SearchConfig, load_config
from slime_search.errors import ConfigError

# Each mistake with what its message must say.
MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    ({"topk": 0}, ["topk", "0", "a number of at least 1"]),
    ({"topk": "many"}, ["topk", "'many'", "a whole number"]),
    ({"max_turns": -1}, ["max_turns", "-1", "a number of at least 0"]),
    ({"max_corrections": -1}, ["max_corrections", "-1"]),
    ({"search_concurrency": 0}, ["search_concurrency", "0"]),
    ({"search_timeout_s": 0}, ["search_timeout_s", "0", "a number above 0"]),
    ({"search_attempts": 0}, ["search_attempts", "0"]),
    ({"engine_attempts": 0}, ["engine_attempts", "0"]),
    ({"search_backend": "bing"}, ["search_backend", "'bing'", "one of 'local', 'google'"]),
    ({"max_observation_tokens": 3}, ["max_observation_tokens", "3", "16"]),
    ({"max_context_tokens": 3}, ["max_context_tokens", "3", "64"]),
    ({"format_score": 1}, ["format_score", "1", "a number below 1"]),
    ({"format_score": -0.1}, ["format_score", "-0.1"]),
    ({"max_failure_share": 1.5}, ["max_failure_share", "1.5"]),
    ({"return_logprob": "perhaps"}, ["return_logprob", "'perhaps'", "true or false"]),
    ({"reward": {"metric": "rouge"}}, ["reward.metric", "'rouge'", "one of 'em', 'f1'"]),
    ({"reward": {"no_search_penalty": -1}}, ["reward.no_search_penalty", "-1"]),
    ({"local": {"search_url": "127.0.0.1:8000/retrieve"}}, ["local.search_url", "127.0.0.1:8000", "http://"]),
    ({"local": {"search_url": "http:///retrieve"}}, ["local.search_url", "http:///retrieve", "whole URL"]),
    ({"local": {"search_url": ""}}, ["local.search_url", "at least one URL"]),
    ({"local": {"search_url": []}}, ["local.search_url", "at least one URL"]),
    ({"local": {"search_url": ["http://r", "r:1"]}}, ["local.search_url", "'r:1'", "whole URL"]),
    ({"local": {"search_url": "http://r,"}}, ["local.search_url", "''", "whole URL"]),
    ({"local": {"search_url": 5}}, ["local.search_url", "5"]),
    ({"local": {"proxy": "proxy:3128"}}, ["local.proxy", "proxy:3128", "http://"]),
    ({"local": {"search_url": "http://r:port"}}, ["local.search_url", "http://r:port", "whole URL"]),
    ({"google": {"endpoint": "serper"}}, ["google.endpoint", "'serper'", "whole URL"]),
    ({"google": {"snippet_only": "pages"}}, ["google.snippet_only", "'pages'", "true or false"]),
    ({"local": "http://r"}, ["local", "'http://r'"]),
    ({"tpok": 3}, ["'tpok'", "did you mean 'topk'"]),
    ({"zzz": 3}, ["'zzz'", "known keys", "max_turns"]),
    ({"local": {"serch_url": "http://r"}}, ["local", "'serch_url'", "did you mean 'search_url'"]),
    ({"google": {"key": "x"}}, ["google", "'key'", "api_key"]),
    ({"reward": {"metrics": "em"}}, ["reward", "'metrics'", "did you mean 'metric'"]),
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES, ids=[str(mistake) for mistake, _ in MISTAKES])
@pytest.mark.parametrize("source", ["dict", "overlay"])
def test_a_mistake_is_named(mistake: dict[str, Any], said: list[str], source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(*((mistake,) if source == "dict" else ({}, mistake)))
    assert not [part for part in said if part not in str(caught.value)], str(caught.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"topk": 0, "format_score": 2, "local": {"search_url": "nowhere"}})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert [key for key in ("topk", "format_score", "local.search_url") if not any(key in line for line in lines)] == []


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SLIME_SEARCH_TOPK", "many", ["SLIME_SEARCH_TOPK = 'many'", "a whole number"]),
        ("SLIME_SEARCH_LOCAL__SEARCH_URL", "nowhere", ["SLIME_SEARCH_LOCAL__SEARCH_URL = 'nowhere'", "whole URL"]),
        ("SLIME_SEARCH_LOCAL__SERCH_URL", "http://r", ["'serch_url'", "'search_url'"]),
        ("SLIME_SEARCH_LOCAL", "nowhere", ["SLIME_SEARCH_LOCAL = 'nowhere'", "SLIME_SEARCH_LOCAL__SEARCH_URL=http"]),
        ("SLIME_SEARCH_TPOK", "5", ["TPOK", "TOPK"]),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    variable: str, value: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_config({})
    assert not [part for part in said if part.lower() not in str(caught.value).lower()], str(caught.value)
    assert not re.search("EnvSettings|Input should|Value error", str(caught.value))


@pytest.mark.parametrize("overlay", ["topk: 5", 5, ["topk"]])
def test_an_overlay_that_is_no_mapping_is_named(overlay: Any) -> None:
    with pytest.raises(ConfigError, match="slime_search"):
        load_config({}, overlay)


def test_the_later_source_wins_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = {"topk": 2, "max_turns": 4, "local": {"search_url": "http://one/retrieve", "proxy": "http://p:1"}}
    overlay = {"topk": 5, "local": {"search_url": "http://two/retrieve"}, "reward": {"metric": "f1"}}
    monkeypatch.setenv("SLIME_SEARCH_TOPK", "7")
    monkeypatch.setenv("SLIME_SEARCH_REWARD__NO_SEARCH_PENALTY", "0.1")
    config = load_config(configs, overlay)
    assert (config.topk, config.max_turns) == (7, 4)
    assert (config.local.search_url, config.local.proxy) == ("http://two/retrieve", "http://p:1")
    assert (config.reward.metric, config.reward.no_search_penalty) == ("f1", 0.1)
    monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", "http://three/retrieve")
    assert load_config(configs, overlay).local.search_url == "http://three/retrieve"
    assert load_config(configs, overlay).local.proxy == "http://p:1"
    assert configs == {"topk": 2, "max_turns": 4, "local": {"search_url": "http://one/retrieve", "proxy": "http://p:1"}}
    assert overlay["local"] == {"search_url": "http://two/retrieve"}


def test_no_limit_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIME_SEARCH_MAX_OBSERVATION_TOKENS", "null")
    monkeypatch.setenv("SLIME_SEARCH_LOCAL__PROXY", "null")
    config = load_config({"max_observation_tokens": 64, "local": {"proxy": "http://proxy:3128"}})
    assert (config.max_observation_tokens, config.local.proxy) == (None, None)


def test_the_placeholder_is_no_key() -> None:
    assert load_config({"google": {"api_key": "your_api_key_here"}}).google.api_key is None
    assert load_config({"google": {"api_key": ""}}).google.api_key is None
    key = load_config({"google": {"api_key": "real"}}).google.api_key
    assert key is not None and key.get_secret_value() == "real"


@pytest.mark.parametrize(
    "written", ["http://a/retrieve, http://b/retrieve", '["http://a/retrieve", "http://b/retrieve"]']
)
def test_several_servers_may_stand_in_the_environment(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", written)
    assert load_config({}).local.search_urls == ("http://a/retrieve", "http://b/retrieve")


def test_one_server_and_a_list_of_servers_are_taken() -> None:
    one, several = "http://a/retrieve", ["http://a/retrieve", "http://b/retrieve"]
    assert load_config({"local": {"search_url": one}}).local.search_urls == (one,)
    assert load_config({"local": {"search_url": several}}).local.search_urls == tuple(several)


@pytest.mark.parametrize("section", [{"api_key": 12345}, {"api_key": ["secret-12345"]}, {"api_key": {"a": "12345"}}])
def test_a_key_is_not_shown_when_it_is_wrong(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"google\.api_key") as caught:
        load_config({"google": section})
    assert "12345" not in str(caught.value)


def test_a_mistyped_google_section_does_not_show_the_key() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"google": {"api_kye": "secret-12345", "topk": 3}})
    assert "12345" not in str(caught.value)


def test_the_defaults_are_valid_and_a_configuration_is_frozen() -> None:
    config = load_config({})
    assert config == SearchConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.topk = 5  # type: ignore[misc]


def test_a_key_in_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIME_SEARCH_GOOGLE__API_KEY", "secret-12345")
    monkeypatch.setenv("SLIME_SEARCH_GOOGLE", "no JSON")
    with pytest.raises(ConfigError, match="SLIME_SEARCH_GOOGLE") as caught:
        load_config({})
    assert "12345" not in str(caught.value)
