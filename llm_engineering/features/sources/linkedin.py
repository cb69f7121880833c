"""LinkedIn: the official data export (a zip or its folder), and single public posts through the browser.

LinkedIn shows a login page to whoever is not logged in; it is recognised and never stored. The export is the better
way: it is complete, and needs no password.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from llm_engineering.domain.documents import Kind
from llm_engineering.domain.errors import SourceError
from llm_engineering.domain.ledger import Reason
from llm_engineering.domain.links import canonical_link
from llm_engineering.domain.ports import FetchContext, Fetched, Sandbox
from llm_engineering.features.cleaning.clean import clean_html
from llm_engineering.features.cleaning.cleaned import Cleaned
from llm_engineering.features.reading.archive import ArchiveError, open_archive, stored_size
from llm_engineering.features.reading.linkedin_export import ExportError, pages
from llm_engineering.features.reading.pages import page_and_wall, wall_error
from llm_engineering.features.source import Page, Skipped, Source, Target

LOGIN = "https://www.linkedin.com/login"
FIELDS = ("#username", "#password")
SUBMIT = "button[type=submit]"
READABLE = ("/posts/", "/pulse/", "/feed/update/")
WALLS = ("/authwall", "/login", "/uas/login", "/checkpoint/", "/signup", "/404")
_LINKEDIN = re.compile(r"https://(?:[a-z]{2,3}\.)?linkedin\.com/")  # not engineering.linkedin.com, which is a blog
_PASSWORD = re.compile(r"<input[^<>]+type=[\"']?password", re.IGNORECASE)
_WALL = re.compile(r"class=[\"'][^\"']*\b(authwall|join-form|login__form)\b|id=[\"']authwall", re.IGNORECASE)
POST_CLASSES = (  # classes of what LinkedIn shows around the words of a post or an article
    "article-main", "attributed-text-segment-list", "core-section-container", "feed-shared-update",
    "main-feed-activity-card", "publisher-content", "reader-article", "update-components",
)  # fmt: skip
_POST = re.compile(rf"class=[\"'][^\"']*\b({'|'.join(POST_CLASSES)})", re.IGNORECASE)
_BOILERPLATE = ("//p[@class='created' or @class='published']",)  # the export's own lines above an article


def crawl(target: Target, context: FetchContext) -> Iterator[Page | Skipped]:
    if target.link.startswith("file:"):
        yield from _export(target, context.sandbox)
    elif not urlsplit(target.link).path.startswith(READABLE):
        detail = "of LinkedIn only /posts/, /pulse/ and /feed/update/ links can be read, and the data export"
        raise SourceError(target.link, Reason.BAD_LINK, detail, retry=False)
    else:
        yield _post(target, context)


def link_of(address: str, options: Mapping[str, JsonValue]) -> str:
    """Of an export's path, or of a post."""
    if address.startswith(("https://", "http://", "file:")):
        return canonical(canonical_link(address))
    return canonical_link(Path(address).expanduser().absolute().as_uri())


def canonical(link: str) -> str:
    """de.linkedin.com is linkedin.com, urn%3Ali is urn:li, and no query says what is shown."""
    if not _LINKEDIN.match(link):
        return link
    return _LINKEDIN.sub("https://linkedin.com/", link).partition("?")[0].replace("%3A", ":")


def _export(target: Target, sandbox: Sandbox) -> Iterator[Page | Skipped]:
    path = Path(unquote(urlsplit(target.link).path))
    if not path.exists():
        raise SourceError(target.link, Reason.MISSING_FILE, f"there is no {path}", retry=False)
    found, unread = sandbox.submit(_pages_of_export, path, size=stored_size(path)).result()
    yield from found
    if unread:
        raise SourceError(target.link, Reason.BAD_ARCHIVE, unread, retry=False)


def _pages_of_export(path: Path) -> tuple[list[Page | Skipped], str]:
    """What can be read of it, and what cannot; "" when all can."""
    found: list[Page | Skipped] = []
    try:
        with open_archive(path) as archive:
            found.extend(pages(archive))
    except (ArchiveError, ExportError) as error:
        return found, str(error)
    return found, ""


def _post(target: Target, context: FetchContext) -> Page:
    credentials = context.credentials("linkedin")
    if credentials is None:
        detail = (
            "set TWIN_LINKEDIN_USERNAME and TWIN_LINKEDIN_PASSWORD, or import the data export: - linkedin: export.zip"
        )
        raise SourceError(target.link, Reason.MISSING_CREDENTIALS, detail, retry=False)
    browser = context.browser()
    fetched = browser.get(target.url)
    if _is_wall(fetched):
        browser.login(LOGIN, dict(zip(FIELDS, credentials, strict=True)), SUBMIT)
        fetched = browser.get(target.url)
    if _is_wall(fetched):
        detail = "LinkedIn still asks to log in; import the data export instead: - linkedin: export.zip"
        raise SourceError(target.link, Reason.LOGIN, detail, retry=False)
    page, wall = page_and_wall(fetched, target, context.sandbox)
    if wall is not None and not _POST.search(fetched.text):
        raise wall_error(target, wall)
    kind = Kind.ARTICLE if "/pulse/" in target.link else Kind.POST
    return page._replace(kind=kind, etag=None, last_modified=None, meta={**page.meta, "rung": "browser"})


def _is_wall(fetched: Fetched) -> bool:
    """Where LinkedIn sends strangers, or a page that has a form to log in and no post."""
    if urlsplit(fetched.url).path.startswith(WALLS):
        return True
    form = _PASSWORD.search(fetched.text) or _WALL.search(fetched.text)
    return bool(form) and not _POST.search(fetched.text)


def clean(body: str, media_type: str) -> Cleaned:
    return clean_html(body, media_type, without=_BOILERPLATE)


SOURCE = Source(
    name="linkedin",
    kind=Kind.POST,
    crawl=crawl,
    owns=lambda link: _LINKEDIN.match(link) is not None,
    clean=clean,
    canonical=canonical,
    link_of=link_of,
    complete=True,
)
