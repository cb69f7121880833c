"""Tell an article from what stands in front of one: bot walls, paywalls, logins, consent pages, empty shells.

Such a page must never be stored as an article, and an article *about* them must be. So a page is only a wall when its
own markup says so (a challenge's script, a paywall's element, schema.org) or, for words alone, when there is next to
nothing else on it. docs/cleaning.md lists the evidence.
"""

import re
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llm_engineering.domain.ledger import Reason

SHORT = 400  # characters of visible text: not even a short post
BRIEF = 1_200  # a stub, a form or a notice with its footer
STUB = 1_500  # of extracted article: what is left in front of a paywall

_CHALLENGES = (
    # a wall's own markup; scripts that the same vendors put on every page are not enough
    ("Cloudflare", r"_cf_chl_opt|id=[\"']?challenge-(?:form|running|error-text|stage)|cf-browser-verification"),
    ("Cloudflare", r"id=[\"']?cf-error-details|id=[\"']?cf-wrapper"),
    ("DataDome", r"(?:geo|ct)\.captcha-delivery\.com|var dd\s*=\s*\{['\"]rt['\"]"),
    ("PerimeterX", r"id=[\"']?px-captcha|_pxAppId\s*=|/captcha/captcha\.js\?a=c"),
    ("Akamai", r"errors\.edgesuite\.net|/_sec/cp_challenge/|sec-if-cpt-container"),
    ("Imperva", r"_Incapsula_Resource|Incapsula incident ID"),
    ("AWS WAF", r"AwsWafIntegration|awsWafCookieDomainList"),
    ("DDoS-Guard", r"/\.well-known/ddos-guard/(?:js-)?(?:check|challenge)|data-ddg-"),
    ("Anubis", r"id=[\"']?anubis_(?:version|challenge)"),
    ("Vercel", r"/\.well-known/vercel/security/"),
)
_CAPTCHA = r"class=[\"'][^\"']*\b(?:g-recaptcha|h-captcha|cf-turnstile)\b|hcaptcha\.com/(?:1/api\.js|captcha)"
_BOT_TITLES = (
    r"just a moment|attention required|access denied|robot check|are you a (?:robot|human)|pardon our interruption"
    r"|(?:human|security|browser) (?:verification|check)|verify(?:ing)? (?:that )?you are|ddos-guard|one more step"
    r"|checking your browser|please wait|bot verification|unusual traffic|403 forbidden|making sure you're not a bot"
)
_BOT_WORDS = (
    r"enable javascript and cookies to continue|checking (?:if the site connection is secure|your browser)"
    r"|verify(?:ing)? (?:that )?you are (?:a )?(?:human|not a (?:ro)?bot)|complete the security check"
    r"|unusual traffic from your computer|needs to review the security of your connection|press (?:&|and) hold"
    r"|prove (?:that )?you(?:'re| are) (?:not a (?:ro)?bot|human)|you don't have permission to access"
    r"|please enable js and disable any ad blocker|performing security verification"
)
_PAYWALL_MARKUP = (
    r"data-testid=[\"']paywall[\"']|class=[\"'][^\"']*\bpaywall-(?:title|cta|login)\b|\"isLockedPreviewOnly\":\s*true"
)
_PAYWALL_WORDS = (
    r"this post is for (?:paid|paying) subscribers|subscribe to (?:continue|keep) reading|for subscribers only"
    r"|made this story available to medium members only|create an account to read the full story"
    r"|already a (?:paid )?subscriber\?|to continue reading,? (?:please )?(?:subscribe|log in|register)"
    r"|become a member to read"
    r"|member-only story|read the full story with a free account"
    r"|this (?:article|content) is (?:reserved )?for subscribers"
)
_LOGIN_WORDS = (
    r"(?:sign|log) in to (?:continue|view|see|read|your account)"
    r"|(?:please|you (?:must|need to)) (?:be logged in|log ?in|sign in)"
    r"|join linkedin|agree & join|forgot (?:your )?password|melden sie sich an|connectez-vous"
)
_LOGIN_TITLE = r"\b(?:log ?in|sign ?in|sign up|anmelden|login required|authwall|connexion|iniciar sesión)\b"
_LOGIN_PATH = r"/(?:authwall|uas/login|login|signin|sign-in|log-in|sso|accounts/login|m/signin|checkpoint)(?:[/?.]|$)"
_CONSENT_WORDS = (
    r"before you continue|we (?:value|care about) your privacy"
    r"|(?:accept|reject) all(?: cookies)?|cookie (?:settings|preferences)"
    r"|manage (?:your )?(?:options|preferences|choices)|alle akzeptieren|tout accepter|we use cookies"
)
_CONSENT_HOST = r"^(?:consent|guce|privacy-mgmt|cookie-consent)\."
_NEEDS_SCRIPT = (
    r"(?:enable|requires?|activate|turn on|need)\W+(?:\w+\W+){0,6}javascript"
    r"|javascript\W+(?:\w+\W+){0,4}(?:disabled|required|enabled|to run)"
)
_SHELL_ROOTS = {"root", "app", "__next", "__nuxt", "___gatsby", "svelte", "app-root", "react-root", "main-app", "q-app"}


class Wall(NamedTuple):
    """Why a page is no article. `retry`: it may be one later, or from elsewhere."""

    reason: Reason
    detail: str
    retry: bool


class Seen:
    """A page as a reader without scripts sees it. Parsed once; what is expensive is only done when asked for."""

    def __init__(self, html: str) -> None:
        self.html = html

    @cached_property
    def _root(self) -> Any:
        from llm_engineering.features.cleaning.page import parse

        return parse(self.html)

    @cached_property
    def facts(self) -> Any:
        """PageFacts: title, date, canonical link."""
        from llm_engineering.features.cleaning.page import PageFacts, facts

        return PageFacts() if self._root is None else facts(self._root)

    @cached_property
    def text(self) -> str:
        """What stands on the page, white space collapsed; title, scripts and <noscript> are not on it."""
        if self._root is None:
            return ""
        from lxml.etree import strip_elements

        shown = copy(self._root)
        strip_elements(shown, "head", "title", "script", "style", "noscript", "template", with_tail=False)
        return " ".join(" ".join(shown.itertext()).split())

    @cached_property
    def noscript(self) -> str:
        if self._root is None:
            return ""
        return " ".join(" ".join("".join(n.itertext()) for n in self._root.iter("noscript")).split())

    @cached_property
    def article(self) -> str:
        """What the cleaner would keep."""
        from llm_engineering.features.cleaning.html import html_to_markdown

        return html_to_markdown(self.html)[0]

    def has(self, path: str) -> bool:
        return self._root is not None and bool(self._root.xpath(path))

    @cached_property
    def empty_root(self) -> bool:
        """The element a JavaScript framework would fill, and has not."""
        if self._root is None:
            return False
        return any(
            (div.get("id") in _SHELL_ROOTS or div.tag == "app-root") and len("".join(div.itertext()).strip()) < 50
            for div in self._root.iter("div", "main", "app-root")
        )


def wall_of(seen: Seen, url: str = "") -> Wall | None:
    """The wall this page is, or None for a page worth storing. `url` is where the redirects ended."""
    return (
        _bot_wall(seen)
        or _paywall(seen)
        or _consent(seen, url)
        or _login(seen, url)
        or _needs_javascript(seen)
        or _empty(seen)
    )


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.IGNORECASE)
    return found.group() if found else ""


def _bot_wall(seen: Seen) -> Wall | None:
    if len(seen.text) >= BRIEF:
        return None
    for vendor, markup in _CHALLENGES:
        if _found(markup, seen.html) and not _is_prose(seen):
            return Wall(Reason.BOT_WALL, f"a {vendor} challenge instead of the page", True)
    if len(seen.text) < SHORT:
        words = _found(_BOT_WORDS, f"{seen.text} {seen.noscript}")
        if words and not _is_prose(seen):
            return Wall(Reason.BOT_WALL, f"a challenge instead of the page: “{words}”", True)
        other = seen.has("//article|//p[string-length() > 150]|//input[@type='password']")
        if _found(_CAPTCHA, seen.html) and not other:
            return Wall(Reason.BOT_WALL, "a captcha instead of the page", True)
    title = _found(rf"^\W*(?:{_BOT_TITLES})", seen.facts.title)
    if title and _found(_BOT_WORDS, f"{seen.text} {seen.noscript}") and not _is_prose(seen):
        return Wall(Reason.BOT_WALL, f"a challenge instead of the page: “{title}”", True)
    return None


def _is_prose(seen: Seen) -> bool:
    """Somebody's own words: an <article> of some length, or a date of publication."""
    return seen.facts.published_at is not None or seen.has("//article[string-length(normalize-space()) > 250]")


def _paywall(seen: Seen) -> Wall | None:
    """Extracting is expensive, so only pages that hint at a paywall are measured."""
    markup = _found(_PAYWALL_MARKUP, seen.html)
    words = _found(_PAYWALL_WORDS, seen.text)
    if markup and (seen.facts.free is False or words):
        return Wall(Reason.PAYWALL, f"only the beginning is public: “{words or 'not accessible for free'}”", False)
    if (seen.facts.free is False or (words and len(seen.text) < BRIEF)) and len(seen.article) < STUB:
        why = words or "schema.org says isAccessibleForFree: false"
        return Wall(Reason.PAYWALL, f"only {len(seen.article)} characters are public: “{why}”", False)
    return None


def _login(seen: Seen, url: str) -> Wall | None:
    if len(seen.text) >= BRIEF or _is_prose(seen):
        return None
    form = seen.has("//input[@type='password']")
    at = _found(_LOGIN_PATH, urlsplit(url).path) if url else ""
    words = _found(_LOGIN_WORDS, seen.text)
    title = _found(_LOGIN_TITLE, seen.facts.title)
    if sum(map(bool, (form, at, words, title))) >= 2 or (words and len(seen.text) < SHORT / 2):
        return Wall(Reason.LOGIN, f"a login page instead of the page: “{words or title or at}”", False)
    return None


def _consent(seen: Seen, url: str) -> Wall | None:
    if url and _found(_CONSENT_HOST, urlsplit(url).hostname or ""):
        return Wall(Reason.CONSENT, f"redirected to the consent page {urlsplit(url).hostname}", False)
    words = _found(_CONSENT_WORDS, seen.text)
    if words and len(seen.text) < BRIEF and not _is_prose(seen) and len(_without_consent(seen)) < SHORT / 2:
        return Wall(Reason.CONSENT, f"a consent page instead of the page: “{words}”", False)
    return None


def _without_consent(seen: Seen) -> str:
    """The sentences that are not about cookies."""
    about = r"cookie|privacy|consent|accept|reject|partner|personal data|preferences|datenschutz|akzeptieren|options"
    return " ".join(s for s in re.split(r"(?<=[.!?])\s+", seen.text) if not re.search(about, s, re.IGNORECASE))


def _needs_javascript(seen: Seen) -> Wall | None:
    if len(seen.text) >= SHORT / 2 or not seen.has("//script"):
        return None
    words = _found(_NEEDS_SCRIPT, f"{seen.text} {seen.noscript}")
    if (seen.empty_root or words or not seen.text) and not seen.has("//article[string-length(normalize-space()) > 50]"):
        return Wall(Reason.NEEDS_JAVASCRIPT, "the page is empty until its scripts run", False)
    return None


def _empty(seen: Seen) -> Wall | None:
    if re.search(r"\w", seen.text):
        return None
    return Wall(Reason.EMPTY, "there is no text on the page", True)
