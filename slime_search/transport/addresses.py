"""Which way leads to a URL: straight to servers on this machine, and through a proxy only where one is named."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine: ``localhost``, ``127.0.0.0/8``, ``::1``, ``0.0.0.0`` or ``::``."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def proxy_for(url: str, proxy: str | None) -> str | None:
    """The proxy through which ``url`` is asked: the configured one, and none for this machine, which it can't see.

    The environment's ``http_proxy`` and its like are for downloads from the internet and are never asked here.
    """
    return None if proxy is None or is_loopback(url) else proxy
