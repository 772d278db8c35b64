"""Which addresses a fetched page may come from, and connections that go nowhere else."""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp import AddrInfoType, ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

Address = IPv4Address | IPv6Address
AddressPolicy = Callable[[Address], bool]
"""Says whether an address may be connected to."""

_NAT64 = IPv6Network("64:ff9b::/96")


class RefusedAddress(OSError):
    """A page is at an address that the policy refuses."""


def is_public(address: Address) -> bool:
    """Whether ``address`` is one host's on the public Internet: not private, loopback, link-local or metadata."""
    if isinstance(address, IPv6Address) and (inner := _inner(address)):
        return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def guarded_socket(allowed: AddressPolicy) -> Callable[[AddrInfoType], socket.socket]:
    """A socket factory for aiohttp. It sees the very address that is connected to, so a name can't mean two."""

    def make(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, target = info
        _check(str(target[0]), allowed)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make


def guard_before_proxy(allowed: AddressPolicy) -> ClientMiddlewareType:
    """A middleware of aiohttp for requests that a proxy connects: what can be known of each address is checked here.

    A name that only the proxy can resolve passes.
    """

    async def check(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(request.url.host, None, type=socket.SOCK_STREAM)
        except socket.gaierror:
            found = []
        for *_, target in found:
            _check(str(target[0]), allowed)
        return await handler(request)

    return check


def _check(host: str, allowed: AddressPolicy) -> None:
    if not allowed(ip_address(host.partition("%")[0])):
        raise RefusedAddress(f"{host} is not a public address")


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is meant by one of the addresses in which IPv6 carries them."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
