"""Which network addresses a crawler may talk to. Links come from the web, so none of them may reach inward."""

import csv
import ipaddress
import socket
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, urldefrag, urljoin, urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError, printable_line

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
SPECIAL_RANGES = Path(__file__).with_name("special_ranges.csv")
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052


def resolve(host: str, port: int) -> list[str]:
    """Every address the system knows for a name. Raises socket.gaierror."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def is_public(address: str) -> bool:
    """Whether an IP address is on the open internet; an IPv6 form that is nothing but an IPv4 address is judged as that
    one. What is no address is not public."""
    try:
        ip = _without_wrapping(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip not in GLOBAL_UNICAST:
        return False
    return ip.is_global and not any(ip in special for special in special_ranges()[ip.version])


def _without_wrapping(ip: Address) -> Address:
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return ip.ipv4_mapped
        if ip in NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


@cache
def special_ranges() -> dict[int, tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]]:
    """Those of the file beside this one, by the version of IP."""
    lines = SPECIAL_RANGES.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    networks = [ipaddress.ip_network(row["range"]) for row in rows]
    return {version: tuple(one for one in networks if one.version == version) for version in (4, 6)}


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
        except OSError as error:
            raise FetchError(Reason.DNS, f"the name {host} cannot be looked up: {error}", retry=True) from error
        except ValueError as error:  # UnicodeError among them
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
