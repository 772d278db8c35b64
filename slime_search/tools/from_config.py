"""The search tool that a recipe's config describes: a retriever, or Google."""

import importlib.util
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from slime_search.config import RETRIEVER_TOKEN, GoogleConfig, SearchConfig
from slime_search.core.tool import Tool
from slime_search.errors import ConfigError
from slime_search.tools.retriever import Retriever
from slime_search.transport.client import PooledSender, ServiceClient
from slime_search.transport.replicas import Replicas

if TYPE_CHECKING:
    from slime_search.tools.google.cache import Memory
    from slime_search.tools.google.pages import Pages
    from slime_search.tools.google.search import GoogleSearch

_DAY_S = 86_400.0
_FOR_PAGES = ("trafilatura", "lxml_html_clean", "charset_normalizer")


def search_tool(config: SearchConfig) -> Tool:
    """The search backend that the config names, with its connections not made yet.

    Raises:
        ConfigError: Google is chosen without its key, packages or cache.
    """
    return google_search(config) if config.search_backend == "google" else retriever(config)


def retriever(config: SearchConfig) -> Retriever:
    """The client of the retrieval servers that the config names."""
    local = config.local
    sender = PooledSender(concurrency=config.search_concurrency, timeout_s=config.search_timeout_s, proxy=local.proxy)
    client = ServiceClient("retriever", sender, attempts=config.search_attempts)
    token = os.environ.get(RETRIEVER_TOKEN)
    return Retriever(Replicas(client, local.search_urls), topk=config.topk, token=token)


def google_search(config: SearchConfig) -> "GoogleSearch":
    """Google through serper.dev.

    Raises:
        ConfigError: there is no key, a package is missing, or the cache can't be opened.
    """
    from slime_search.tools.google.search import GoogleSearch
    from slime_search.tools.google.serper import RateLimited, Serper

    google = config.google
    key = google.api_key.get_secret_value() if google.api_key else os.environ.get("SERPER_API_KEY")
    if not key:
        raise ConfigError("google.api_key: search_backend is 'google', but no key is set", "export SERPER_API_KEY")
    sender = PooledSender(concurrency=config.search_concurrency, timeout_s=config.search_timeout_s, proxy=google.proxy)
    limited = RateLimited(sender, per_second=google.requests_per_second)
    client = ServiceClient("Google search (serper.dev)", limited, attempts=config.search_attempts)
    memory = _memory(google)
    serper = Serper(client, api_key=key, url=google.endpoint, memory=memory)
    if google.snippet_only:
        return GoogleSearch(serper, topk=config.topk)
    pages = _pages_class()(
        memory,
        max_bytes=google.page_bytes,
        timeout_s=google.page_timeout_s,
        concurrency=google.page_concurrency,
        max_chars=google.page_chars,
        proxy=google.proxy,
    )
    return GoogleSearch(serper, topk=config.topk, pages=pages)


def _pages_class() -> "type[Pages]":
    missing = [f"{name} is not installed" for name in _FOR_PAGES if importlib.util.find_spec(name) is None]
    try:
        # An aiohttp before 3.12 can't say which address it connects to.
        from slime_search.tools.google.pages import Pages
    except ImportError as error:
        missing.append(str(error))
    if missing:
        raise ConfigError(
            f"google.snippet_only = False: {', '.join(missing)}", "pip install 'slime-search[web]', or set it to True"
        )
    return Pages


def _memory(google: GoogleConfig) -> "Memory":
    from slime_search.tools.google.cache import DiskCache, Memory

    if not google.cache_days:
        return Memory(None, seconds=0)
    path = google.cache_path or _cache_folder() / "google.sqlite3"
    try:
        return Memory(DiskCache(path), seconds=google.cache_days * _DAY_S)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"google.cache_path = {str(path)!r}: {error}", "name a file on a local disk, or set google.cache_days to 0"
        ) from error


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slime-search"
