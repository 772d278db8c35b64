"""Which addresses pages may come from."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slime_search.tools.google.addresses import is_public

WITHIN = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
]


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "::1", "::", "fe80::1", "fc00::1", "ff02::1"]
)
def test_metadata_loopback_and_links_are_within(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.sampled_from(WITHIN), st.data())
def test_no_network_within_is_reached_in_any_spelling(network: str, data: st.DataObject) -> None:
    inner = data.draw(st.ip_addresses(network=network))
    assert isinstance(inner, IPv4Address) and not is_public(inner)
    carried = int(inner)
    for prefix, shift in (("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80), ("::", 0)):
        assert not is_public(IPv6Address(int(IPv6Address(prefix)) + (carried << shift)))


@given(st.ip_addresses(v=4))
def test_what_is_public_is_in_no_network_within(address: IPv4Address) -> None:
    assert is_public(address) <= (not any(address in ip_network(network) for network in WITHIN))
