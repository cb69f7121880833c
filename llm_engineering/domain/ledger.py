"""What happened to every link and document, so that a failure is never silent and a stopped run can go on."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from llm_engineering.domain.noun import Noun


class Outcome(StrEnum):
    READ = "read"  # a new or changed document was stored
    UNCHANGED = "unchanged"  # the link was asked, and holds what the warehouse holds
    GONE = "gone"  # it was read once, and the site says it is no more; its documents are tombstoned
    FAILED = "failed"  # see `reason`; worth another try
    DEAD = "dead"  # see `reason`; asking again will not help until somebody changes something


class Reason(StrEnum):
    """Why a link gave no document, or a document no passages. The word is stable: dashboards may rely on it."""

    DNS = "dns"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    TLS = "tls"
    HTTP_ERROR = "http_error"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    REDIRECT_LOOP = "redirect_loop"
    BLOCKED_ADDRESS = "blocked_address"
    ROBOTS = "robots"
    TOO_LARGE = "too_large"
    WRONG_TYPE = "wrong_type"
    BAD_ENCODING = "bad_encoding"
    EMPTY = "empty"
    NEEDS_JAVASCRIPT = "needs_javascript"
    BOT_WALL = "bot_wall"
    PAYWALL = "paywall"
    LOGIN = "login"
    CONSENT = "consent"
    BAD_FEED = "bad_feed"
    BAD_ARCHIVE = "bad_archive"
    GIT = "git"
    BROWSER = "browser"
    MISSING_CREDENTIALS = "missing_credentials"
    MISSING_FILE = "missing_file"
    LOADER = "loader"
    BAD_LINK = "bad_link"
    UNREADABLE = "unreadable"  # a stored body is damaged, encrypted or not what its media type says
    OVER_BUDGET = "over_budget"  # took more time or memory than one document or page may
    NO_SOURCE = "no_source"  # the source of a stored document is no more
    INTERNAL_ERROR = "internal_error"  # an exception that nobody foresaw: a fault of ours or of a library


class LedgerEntry(Noun):
    """One record per canonical link.

    `etag` and `last_modified` are the validators of the last full answer (for a repository: the commit). They
    are only kept while the documents they belong to are stored.
    """

    link: str
    url: str
    author_id: str
    author_name: str
    source: str
    outcome: Outcome
    reason: Reason | None = None
    detail: str = ""
    attempts: Annotated[int, Field(ge=0)] = 0  # since the last success
    first_seen: datetime
    last_attempt: datetime
    last_success: datetime | None = None
    etag: str | None = None
    last_modified: str | None = None
    documents: Annotated[int, Field(ge=0)] = 0
    found_in: str = ""  # the line of the config whose list named it, as "substack:ann"; "" for a plain link


class DocumentFailure(Noun):
    """Why a stored document is not in the index. Kept until it is, or until it is deleted.

    `detail` is one line: the stage (read, clean or cut), what went wrong, and where in the code. The document is tried
    again when it changed, or when the code that failed, named by `code_version`, did.
    """

    document_id: str
    link: str
    author_id: str = ""  # "" like the name and the source, when not even these can be read
    author_name: str = ""
    source: str = ""
    reason: Reason
    detail: str
    code_version: str
    failed_at: datetime
