"""The configuration under the names that agent frameworks have for it."""

from typing import Any

import pytest

from slime_search.config import load_config
from slime_search.errors import ConfigError
from slime_search.recipes.distillation.config import SearchToolConfig

OTHERS: dict[str, Any] = {
    "retrieval_service_url": "http://a/retrieve",
    "search_topk": 4,
    "search_timeout": 30,
    "max_steps": 3,
}


def test_the_other_names_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(OTHERS, kind=SearchToolConfig)
    assert (config.local.search_urls, config.topk) == (("http://a/retrieve",), 4)
    assert (config.search_timeout_s, config.max_turns) == (30.0, 2)
    monkeypatch.setenv("SLIME_SEARCH_TOPK", "7")
    monkeypatch.setenv("SLIME_SEARCH_LOCAL__SEARCH_URL", "http://b/retrieve")
    config = load_config({**OTHERS, "local": {"proxy": "http://p:1"}}, {"max_turns": 5}, SearchToolConfig)
    assert (config.local.search_urls, config.local.proxy) == (("http://b/retrieve",), "http://p:1")
    assert (config.topk, config.max_turns) == (7, 5)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_steps": 0}, "max_steps = 0: write the number of turns"),
        ({"search_topk": 0}, "topk = 0"),
        ({"retrieval_service_url": "a"}, "local.search_url = 'a'"),
        ({"local": None}, "local = None"),
    ],
)
def test_a_wrong_value_is_named(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config({**OTHERS, **changed}, kind=SearchToolConfig)
