"""Tell an article from what stands in front of one: bot walls, paywalls, logins, consent pages, empty shells.

Such a page must never be stored as an article, and an article *about* them must be. So a page is only a wall when its
own markup says so (a challenge's script, a paywall's element, schema.org) or, for words alone, when there is next to
nothing else on it. docs/cleaning.md lists the evidence.
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from llm_engineering.domain.ledger import Reason
from llm_engineering.features.reading.parsed_page import ParsedPage

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
_OTHER_CONTENT = ("//article", "//p[string-length() > 150]", "//input[@type='password']")
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


class Wall(NamedTuple):
    """Why a page is no article. `retry`: it may be one later, or from elsewhere."""

    reason: Reason
    detail: str
    retry: bool


def wall_of(page: ParsedPage, url: str = "") -> Wall | None:
    """The wall this page is, or None for a page worth storing. `url` is where the redirects ended."""
    return (
        _bot_wall(page)
        or _paywall(page)
        or _consent(page, url)
        or _login(page, url)
        or _needs_javascript(page)
        or _empty(page)
    )


def _first_match(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.IGNORECASE)
    return found.group() if found else ""


def _bot_wall(page: ParsedPage) -> Wall | None:
    if len(page.text) >= BRIEF:
        return None
    for vendor, markup in _CHALLENGES:
        if _first_match(markup, page.html) and not _is_prose(page):
            return Wall(Reason.BOT_WALL, f"a {vendor} challenge instead of the page", True)
    if len(page.text) < SHORT:
        words = _first_match(_BOT_WORDS, f"{page.text} {page.noscript}")
        if words and not _is_prose(page):
            return Wall(Reason.BOT_WALL, f"a challenge instead of the page: “{words}”", True)
        if _first_match(_CAPTCHA, page.html) and not any(map(page.has, _OTHER_CONTENT)):
            return Wall(Reason.BOT_WALL, "a captcha instead of the page", True)
    title = _first_match(rf"^\W*(?:{_BOT_TITLES})", page.facts.title)
    if title and _first_match(_BOT_WORDS, f"{page.text} {page.noscript}") and not _is_prose(page):
        return Wall(Reason.BOT_WALL, f"a challenge instead of the page: “{title}”", True)
    return None


def _is_prose(page: ParsedPage) -> bool:
    """Somebody's own words: an <article> of some length, or a date of publication."""
    return page.facts.published_at is not None or page.has("//article[string-length(normalize-space()) > 250]")


def _paywall(page: ParsedPage) -> Wall | None:
    """Extracting is expensive, so only pages that hint at a paywall are measured."""
    markup = _first_match(_PAYWALL_MARKUP, page.html)
    words = _first_match(_PAYWALL_WORDS, page.text)
    if markup and (page.facts.free is False or words):
        return Wall(Reason.PAYWALL, f"only the beginning is public: “{words or 'not accessible for free'}”", False)
    if (page.facts.free is False or (words and len(page.text) < BRIEF)) and len(page.article) < STUB:
        why = words or "schema.org says isAccessibleForFree: false"
        return Wall(Reason.PAYWALL, f"only {len(page.article)} characters are public: “{why}”", False)
    return None


def _login(page: ParsedPage, url: str) -> Wall | None:
    if len(page.text) >= BRIEF or _is_prose(page):
        return None
    form = page.has("//input[@type='password']")
    at = _first_match(_LOGIN_PATH, urlsplit(url).path) if url else ""
    words = _first_match(_LOGIN_WORDS, page.text)
    title = _first_match(_LOGIN_TITLE, page.facts.title)
    if sum(map(bool, (form, at, words, title))) >= 2 or (words and len(page.text) < SHORT / 2):
        return Wall(Reason.LOGIN, f"a login page instead of the page: “{words or title or at}”", False)
    return None


def _consent(page: ParsedPage, url: str) -> Wall | None:
    if url and _first_match(_CONSENT_HOST, urlsplit(url).hostname or ""):
        return Wall(Reason.CONSENT, f"redirected to the consent page {urlsplit(url).hostname}", False)
    words = _first_match(_CONSENT_WORDS, page.text)
    if words and len(page.text) < BRIEF and not _is_prose(page) and len(_without_consent(page)) < SHORT / 2:
        return Wall(Reason.CONSENT, f"a consent page instead of the page: “{words}”", False)
    return None


def _without_consent(page: ParsedPage) -> str:
    """The sentences that are not about cookies."""
    about = r"cookie|privacy|consent|accept|reject|partner|personal data|preferences|datenschutz|akzeptieren|options"
    return " ".join(s for s in re.split(r"(?<=[.!?])\s+", page.text) if not re.search(about, s, re.IGNORECASE))


def _needs_javascript(page: ParsedPage) -> Wall | None:
    if len(page.text) >= SHORT / 2 or not page.has("//script"):
        return None
    words = _first_match(_NEEDS_SCRIPT, f"{page.text} {page.noscript}")
    if (page.empty_root or words or not page.text) and not page.has("//article[string-length(normalize-space()) > 50]"):
        return Wall(Reason.NEEDS_JAVASCRIPT, "the page is empty until its scripts run", False)
    return None


def _empty(page: ParsedPage) -> Wall | None:
    if re.search(r"\w", page.text):
        return None
    return Wall(Reason.EMPTY, "there is no text on the page", True)
