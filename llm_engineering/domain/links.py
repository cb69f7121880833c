"""One canonical link per thing, so that no spelling of an address makes a second document.

The canonical link is an identity, not an address to ask: the fetcher asks for the address as it was given.
What is folded is listed in docs/crawl.md. `m.` and `mobile.` stay: on some sites they are another site, and a
source that knows better folds them in its own `canonical`.
"""

import ipaddress
import re
from urllib.parse import quote, unquote_to_bytes, urlsplit

from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason

WEB = ("http", "https", "git+http", "git+https")
FILES = ("file", "git+file")
OPAQUE = ("langchain",)
DEFAULT_PORTS = {"http": 80, "https": 443, "git+http": 80, "git+https": 443}

# Say where a reader came from, never what is shown.
TRACKING_PREFIXES = ("utm_", "mtm_", "pk_", "hsa_", "vero_", "oly_")
TRACKING = (
    "_ga", "_gl", "_hsenc", "_hsmi", "_openstat", "cmpid", "dclid", "ef_id", "epik", "fb_action_ids", "fb_action_types",
    "fb_ref", "fb_source", "fbclid", "gad_source", "gbraid", "gclid", "gclsrc", "igsh", "igshid", "li_fat_id", "mc_cid",
    "mc_eid", "mkt_tok", "msclkid", "ref_src", "ref_url", "s_cid", "s_kwcid", "sc_cid", "sk_share", "srsltid",
    "trackingid", "ttclid", "twclid", "wbraid", "wickedid", "yclid", "ysclid", "zanpid",
)  # fmt: skip

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
LONGEST_HOST = 253  # characters (RFC 1035)
_KEPT = "-._~!$&'()*+,;=:@/%"  # stands for itself in a path (RFC 3986); what is left is percent-encoded


def canonical_link(url: str) -> str:
    """The one spelling of a web or file address. Idempotent.

    Raises SourceError(BAD_LINK) for what is no such address: another scheme, user names and passwords, white space
    or control characters, a host that cannot exist.
    """
    text = url.strip()
    if not text or _UNSAFE.search(text) or any("\ud800" <= character <= "\udfff" for character in text):
        raise _bad(url, "white space, control characters and backslashes are not allowed; percent-encode them")
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if scheme in OPAQUE:
        return scheme + text[len(scheme) :]
    if scheme not in WEB + FILES or not text[len(scheme) :].startswith("://"):
        raise _bad(url, "write a full address such as https://example.com/post, or name the source of the line")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _bad(url, str(error)) from None
    if "@" in parts.netloc:
        raise _bad(url, "user names and passwords do not belong into a link")
    if scheme in FILES:
        if host not in ("", "localhost") or parts.query:
            raise _bad(url, "write file:///absolute/path, with ? and # percent-encoded")
        return f"{scheme}:///{_path(parts.path).lstrip('/')}"
    return _web(scheme, _host(url, host), port, _path(parts.path), _query(parts.query))


def host_of(link: str) -> str:
    """Of a canonical link: the host without its port, "" for a file."""
    return urlsplit(link).hostname or ""


def is_host(link: str, *hosts: str) -> bool:
    """Whether a canonical link lives on one of the hosts or on a subdomain of it, and not on a look-alike."""
    host = host_of(link)
    return any(host == name or host.endswith(f".{name}") for name in hosts)


def _bad(url: str, why: str) -> SourceError:
    # not `redacted_url`: this is the link's key in the ledger, which must keep its query
    key = re.sub(r"//[^/?#]*@", "//...@", url.strip()).encode("utf-8", "backslashreplace").decode()[:500]
    return SourceError(key, Reason.BAD_LINK, why, retry=False)


def _web(scheme: str, host: str, port: int | None, path: str, query: str) -> str:
    if port in (None, DEFAULT_PORTS[scheme]):
        scheme, place = scheme.replace("http", "https") if not scheme.endswith("s") else scheme, host
    else:
        place = f"{host}:{port}"
    return f"{scheme}://{place}{path}" + (f"?{query}" if query else "")


def _host(url: str, host: str) -> str:
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host).compressed}]"
        except ValueError as error:
            raise _bad(url, str(error)) from None
    host = host.rstrip(".")
    if len(host) > LONGEST_HOST:
        raise _bad(url, f"{host[:80]!r} is no host name: it has {len(host):,} characters")
    if not host.isascii():
        host = _punycode(url, host)
    host = host.lower()
    while host.startswith("www.") and "." in host[4:]:
        host = host[4:]
    if len(host) > LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise _bad(url, f"{host[:80]!r} is no host name")
    return host


def _punycode(url: str, host: str) -> str:
    import idna  # comes with httpx, which must ask the same host

    try:
        return idna.encode(host, uts46=True).decode()
    except UnicodeError as error:  # idna.IDNAError is one
        raise _bad(url, str(error)) from None


def _path(path: str) -> str:
    """Dot segments resolved, no slash at the end, "/" for none."""
    kept: list[str] = []
    for segment in _percent(path, _KEPT).removeprefix("/").split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept).rstrip("/")


def _query(query: str) -> str:
    pairs = [_percent(pair.replace("+", "%20"), _KEPT + "?") for pair in query.split("&") if pair]
    return "&".join(sorted(pair for pair in pairs if not _tracks(pair.partition("=")[0].lower())))


def _tracks(name: str) -> bool:
    return name in TRACKING or name.startswith(TRACKING_PREFIXES)


def _percent(text: str, kept: str) -> str:
    """Upper-case hex, unreserved characters bare, everything else as it was, a lone % as %25."""

    def one(match: re.Match[str]) -> str:
        byte = unquote_to_bytes(match[0])
        return byte.decode() if re.fullmatch(rb"[A-Za-z0-9._~-]", byte) else match[0].upper()

    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text)
    return quote(re.sub(r"%[0-9A-Fa-f]{2}", one, text), safe=kept)
