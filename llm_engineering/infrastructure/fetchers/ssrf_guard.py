"""Which network addresses a crawler may talk to. Links come from the web, so none of them may reach inward."""

import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import SplitResult, urldefrag, urljoin, urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError, printable_line

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

# Beyond what `ipaddress` calls private, reserved, multicast, loopback, link-local or unspecified.
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.64.0.0/10",  # carrier-grade NAT, RFC 6598; some clouds put their metadata here
            "168.63.129.16/32",  # Azure's metadata and health service, on a public address
            "192.0.0.0/24",  # protocol assignments, RFC 6890; Oracle's metadata
            "192.88.99.0/24",  # 6to4 relays, RFC 7526
            "fec0::/10",  # site-local, RFC 3879
            "2001::/23",  # protocol assignments, Teredo among them, RFC 2928
            "64:ff9b:1::/48",  # local NAT64, RFC 8215
        ),
    )
)
PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052


def resolve(host: str, port: int) -> list[str]:
    """Every address the system knows for a name. Raises socket.gaierror."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def is_public(address: str) -> bool:
    """Whether an IP address is on the open internet; an IPv6 form that carries an IPv4 address is judged by both."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return all(_is_global(one) for one in _with_embedded(ip))


def _with_embedded(ip: Address) -> Iterator[Address]:
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:  # ::ffff:1.2.3.4 is nothing but that IPv4 address
            yield ip.ipv4_mapped
            return
        if ip in NAT64:
            yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
            return
        if ip.sixtofour:
            yield ip.sixtofour
    yield ip


def _is_global(ip: Address) -> bool:
    special = (
        ip.is_private
        or ip.is_loopback
        or ip.is_link_local
        or ip.is_multicast
        or ip.is_reserved
        or ip.is_unspecified
        or not ip.is_global
    )
    return not special and not any(ip.version == network.version and ip in network for network in NOT_PUBLIC)


class SsrfGuard:
    """Turns a host into the addresses that may be talked to; `allow_hosts` ("host" or "host:port") may be anything."""

    def __init__(self, *, allow_hosts: Sequence[str] = (), resolve: Resolve = resolve) -> None:
        self._allowed = frozenset(map(_normalized, allow_hosts))
        self._resolve = resolve

    def allows(self, host: str, port: int) -> bool:
        name = _normalized(host)
        return name in self._allowed or f"{name}:{port}" in self._allowed or f"[{name}]:{port}" in self._allowed

    def addresses(self, host: str, port: int) -> list[str]:
        """Raises FetchError: DNS when there is no address, BLOCKED_ADDRESS when one of them is not public."""
        try:
            found = list(self._resolve(host, port))
        except socket.gaierror as error:
            again = error.errno == socket.EAI_AGAIN
            detail = f"the name {host} has no address: {error.strerror}"
            raise FetchError(Reason.DNS, detail, retry=again, retry_now=again) from error
        except UnicodeError as error:
            raise FetchError(Reason.DNS, f"{printable_line(host, 80)} is no valid host name", retry=False) from error
        if not found:
            raise FetchError(Reason.DNS, f"the name {host} has no address", retry=False)
        if not self.allows(host, port) and (private := [one for one in found if not is_public(one)]):
            where = host if host == private[0] else f"{host} is {private[0]}, which"
            hint = f"if it is yours, add {host} to fetch.allow_hosts"
            raise FetchError(Reason.BLOCKED_ADDRESS, f"{where} is not on the public internet; {hint}", retry=False)
        return found

    def check(self, url: str) -> None:
        """The same for a whole link, for programs (git, a browser) that then connect by themselves."""
        self.addresses(*host_and_port(checked_url(url)))


def checked_url(url: str, schemes: Sequence[str] = ("http", "https")) -> SplitResult:
    """`urlsplit`, for links that may be asked at all. Raises FetchError(BAD_LINK)."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # the port is only parsed when asked for
    except ValueError as error:
        raise FetchError(Reason.BAD_LINK, f"not a link: {error}", retry=False) from error
    if parts.scheme not in schemes:
        raise FetchError(Reason.BAD_LINK, f"only {' and '.join(schemes)} links are read", retry=False)
    if not host:
        raise FetchError(Reason.BAD_LINK, "the link names no host", retry=False)
    if parts.username is not None or parts.password is not None:
        raise FetchError(Reason.BAD_LINK, "the link carries a user name or password; remove them", retry=False)
    return parts


def redirected_url(here: str, location: str) -> str:
    """Where a Location header leads, without its fragment. Raises FetchError(BAD_LINK)."""
    try:
        return urldefrag(urljoin(here, location)).url
    except ValueError as error:
        detail = f"redirects to what is not a link: {printable_line(location, 80)}"
        raise FetchError(Reason.BAD_LINK, detail, retry=False) from error


def host_and_port(parts: SplitResult) -> tuple[str, int]:
    """Of a checked URL; the port its scheme stands for, where it names none."""
    return parts.hostname or "", parts.port or PORTS[parts.scheme]


def _normalized(host: str) -> str:
    host = host.strip().casefold().rstrip(".")
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
