"""Hosts of URLs: their normal form, and which IP addresses and networks are public."""

import ipaddress
import re
from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_NAME = 253

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
"""The last label of a host that resolvers and browsers read as an IPv4 address, such as 127.1 or 0x7f.0.0.1."""

MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""The only IPv6 addresses that are assigned for the public network, besides `TRANSLATED` (IANA)."""

SPECIAL = [
    ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")
]
"""Special-purpose networks (IANA) that are missing in the tables of some supported Python versions. Teredo, whose
addresses embed two IPv4 addresses, lies in 2001::/23."""

ISATAP = (0x00005EFE, 0x02005EFE)
"""The third quarter of an address that embeds an IPv4 address in the last one (RFC 5214)."""


def is_name(text: str) -> bool:
    """Whether a text can be a host name of ASCII letters. Numbers such as `127.1` are none."""
    last = text.removesuffix(".").rpartition(".")[2]
    return len(text) <= MOST_NAME and _NAME.fullmatch(text) is not None and _NUMBER.fullmatch(last) is None


def normal_host(text: str) -> str:
    """Return the normal form of a host in a URL (without brackets): an address, or a name in lower case without a dot
    at its end.

    Raises:
        ValueError: it is neither.
    """
    text = text.lower()
    if "%" not in text:
        try:
            return str(unmapped(ipaddress.ip_address(text if ":" in text else text.removesuffix("."))))
        except ValueError:
            pass
        if is_name(text):
            return text.removesuffix(".")
    raise ValueError(f"{text!r} is not a host name, or an address such as 127.0.0.1 or [::1]")


def ipv6_text(text: str) -> str:
    """Return an IPv6 address as browsers write it (RFC 5952, but IPv4-mapped addresses in hexadecimal digits too)."""
    address = ipaddress.IPv6Address(text)
    if address in MAPPED:
        number = int(address)
        return f"::ffff:{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}"
    return str(address)


def unmapped(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped address (`::ffff:10.0.0.1`), which is the same host."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def network_of(text: str) -> Network:
    """Parse a network in CIDR notation. Networks of IPv4-mapped addresses become IPv4 networks.

    Raises:
        ValueError: it is not a network.
    """
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((low, network.prefixlen - MAPPED.prefixlen))
    return network


def is_reachable(address: Address, networks: list[Network]) -> bool:
    """Whether an address is public or lies in one of `networks`. This also holds for an IPv4 address embedded in it, to
    which a gateway (NAT64, 6to4, ISATAP) sends what is sent to the address.
    """
    address = unmapped(address)
    if any(address in network for network in networks):
        return True
    return _is_public(address) and all(is_reachable(inner, networks) for inner in _embedded(address))


def _is_public(address: Address) -> bool:
    if address in SIX_TO_FOUR:  # public for some versions of Python only; the address embedded in it decides
        return True
    if not address.is_global or address.is_multicast or any(address in network for network in SPECIAL):
        return False
    return address.version == 4 or address in GLOBAL_UNICAST or address in TRANSLATED


def _embedded(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 address of the public network embeds."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    number = int(address)
    if address in SIX_TO_FOUR:
        yield ipaddress.IPv4Address(number >> 80 & 0xFFFFFFFF)
    if address in TRANSLATED or number >> 32 & 0xFFFFFFFF in ISATAP:
        yield ipaddress.IPv4Address(number & 0xFFFFFFFF)
