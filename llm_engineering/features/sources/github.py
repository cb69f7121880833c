"""Git repositories: on GitHub, on any other host, or in a folder. One document per text file a person wrote.

`https://github.com/OWNER/REPO`, `…/tree/BRANCH/sub/folder` and `…/blob/BRANCH/file` are read as they are. A line
`- github: ADDRESS` also takes OWNER (all of their public repositories), OWNER/REPO, a folder, and the https://,
file:// or git@ address of any repository.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from pydantic import JsonValue

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import NotModified, SourceError
from llm_engineering.domain.ids import content_hash
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link, host_of
from llm_engineering.domain.ports import FetchContext
from llm_engineering.features.reading.licences import licence_of
from llm_engineering.features.reading.patterns import patterns_of
from llm_engineering.features.reading.repository_files import RepositoryFile, repository_files
from llm_engineering.features.source import Page, Skipped, Source, Target

API = "https://api.github.com/users/{owner}/repos?per_page={size}&sort=full_name&page={page}"
PAGE_SIZE = 100
HOST = "github.com"
NOT_OWNERS = (  # first words of GitHub's own pages
    "about", "apps", "blog", "codespaces", "collections", "contact", "customer-stories", "enterprise", "events",
    "explore", "features", "issues", "join", "login", "logout", "marketplace", "new", "notifications", "orgs",
    "pricing", "pulls", "readme", "search", "security", "sessions", "settings", "signup", "site", "sponsors", "stars",
    "team", "topics", "trending", "users", "watching",
)  # fmt: skip
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]+")
_SCP = re.compile(r"(?:ssh://)?git@github\.com[:/](.+)")


class RepositoryPlace(NamedTuple):
    """What a link means: `clone` is what git is asked for, `root` the canonical link of the whole repository."""

    clone: str
    root: str
    name: str
    branch: str | None = None
    below: str = ""


def owns(link: str) -> bool:
    if link.startswith("git+"):
        return True
    path = urlsplit(link).path
    if not link.startswith(("http://", "https://")):
        return False
    if host_of(link) != HOST:
        return path.endswith(".git")
    words = path.strip("/").split("/")
    return len(words) >= 2 and words[0] not in NOT_OWNERS and (len(words) == 2 or words[2] in ("tree", "blob"))


def canonical(link: str) -> str:
    """GitHub's names ignore case, and `.git` and `/tree/HEAD` change nothing."""
    if host_of(link) != HOST:
        return link
    scheme, _, rest = link.removeprefix("git+").partition("://")
    words = rest.partition("?")[0].split("/")
    words[1:3] = [word.lower() for word in words[1:3]]
    if len(words) > 2:
        words[2] = words[2].removesuffix(".git")
    if words[3:] in (["tree"], ["tree", "HEAD"]):
        del words[3:]
    return f"{scheme}://{'/'.join(words)}"


def discover(address: str, context: FetchContext) -> Iterator[str]:
    """An owner's public repositories, forks and archived ones left out; any other address is one repository."""
    if scp := _SCP.fullmatch(address):
        yield f"https://{HOST}/{scp[1]}"
    elif address.startswith(("git@", "ssh://")):
        raise SourceError(address, Reason.BAD_LINK, "write the https:// address of the repository", retry=False)
    elif address.startswith("file:"):
        yield f"git+{address}"
    elif address.startswith((".", "/", "~")):
        yield f"git+{Path(address).expanduser().resolve().as_uri()}"
    elif "://" in address:
        link = canonical_link(address)
        owner = urlsplit(link).path.strip("/")
        if host_of(link) == HOST and _OWNER.fullmatch(owner):
            yield from _repositories(owner, context)
        else:
            yield address
    elif _REPOSITORY.fullmatch(address):
        yield f"https://{HOST}/{address}"
    elif _OWNER.fullmatch(address.removeprefix("@")):
        yield from _repositories(address.removeprefix("@"), context)
    else:
        detail = "write OWNER, OWNER/REPO, a folder, or the address of a repository"
        raise SourceError(address, Reason.BAD_LINK, detail, retry=False)


def crawl(target: Target, context: FetchContext) -> Iterator[Page | Skipped]:
    place, patterns = repository_place(target.link, target.options), patterns_of(target)
    branch = {"branch": place.branch} if place.branch else {}
    options = f"+{content_hash(repr(sorted(target.options.items())))[:8]}" if target.options else ""
    if target.etag and target.etag == context.repositories.head(place.clone, **branch) + options:
        raise NotModified(target.link)
    with context.repositories.checkout(place.clone, **branch) as checkout:
        if place.below and not (checkout.path / place.below).exists():
            raise SourceError(target.link, Reason.NOT_FOUND, f"no {place.below} in this repository", retry=False)
        meta = {"repository": place.name, "commit": checkout.commit, "licence": licence_of(checkout.path)}
        for one in repository_files(checkout.path, below=place.below, max_bytes=_limit(target, context)):
            if isinstance(one, Skipped):
                yield one
            elif not patterns.want(one.path):
                yield Skipped("excluded")
            else:
                yield _page(one, place, meta, etag=checkout.commit + options)


def repository_place(link: str, options: Mapping[str, JsonValue]) -> RepositoryPlace:
    branch, below = (str(options.get(option) or "").strip("/") for option in ("branch", "folder"))
    if host_of(link) != HOST:
        clone = link.removeprefix("git+")
        name = unquote(urlsplit(clone).path).strip("/").removesuffix(".git")
        return RepositoryPlace(
            clone, link, name.rpartition("/")[2] if clone.startswith("file:") else name, branch or None, below
        )
    owner, repository, *rest = unquote(urlsplit(link).path).strip("/").split("/")
    if len(rest) > 1:  # tree or blob, the branch, the path
        within = "/".join(rest[1:]) + "/"
        named = branch if branch and within.startswith(f"{branch}/") else rest[1]
        branch, below = branch or named.removeprefix("HEAD"), below or within.removeprefix(named).strip("/")
    root = f"https://{HOST}/{owner}/{repository}"
    return RepositoryPlace(f"{root}.git", root, f"{owner}/{repository}", branch or None, below)


def _page(one: RepositoryFile, place: RepositoryPlace, meta: Mapping[str, JsonValue], *, etag: str) -> Page:
    path = quote(one.path)
    permanent = f"{place.root}/blob/{meta['commit']}/{path}"
    return Page(
        link=f"{place.root}/blob/{quote(place.branch or 'HEAD')}/{path}",
        url=permanent if permanent.startswith("http") else f"{place.clone}/{path}",
        title=f"{place.name}: {one.path}",
        body=one.text,
        media_type=one.media_type,
        etag=etag,
        meta={**meta, "path": one.path, "language": one.language},
    )


def _limit(target: Target, context: FetchContext) -> int | None:
    limit = target.options.get("max_file_bytes")
    return limit if isinstance(limit, int) else context.max_file_bytes


def _repositories(owner: str, context: FetchContext) -> Iterator[str]:
    page = 1
    while True:
        url = API.format(owner=owner, size=PAGE_SIZE, page=page)
        answer = context.fetch.get(url, accept=("application/json",))
        try:
            listed = json.loads(answer.text)
            found = [(one["html_url"], one["fork"] or one["archived"] or one.get("disabled")) for one in listed]
        except (ValueError, KeyError, TypeError):
            raise SourceError(url, Reason.BAD_FEED, "GitHub's answer is no list of repositories", retry=True) from None
        yield from (link for link, passed_over in found if not passed_over)
        if len(found) < PAGE_SIZE:
            return
        page += 1


SOURCE = Source(
    name="github",
    kind=Kind.REPOSITORY,
    crawl=crawl,
    owns=owns,
    discover=discover,
    canonical=canonical,
    options=("branch", "folder", "include", "exclude", "max_file_bytes"),
    complete=True,
)
