"""What is asked of a page in the browser, in a JavaScript world of ours: the page's scripts share the document with it,
and nothing else. Whatever built-in functions they replace, ours are whole.

See "isolated worlds" in https://chromedevtools.github.io/devtools-protocol/tot/Page/#method-createIsolatedWorld.
"""

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_engineering.domain.ledger import Reason
from llm_engineering.infrastructure.fetchers.errors import FetchError, printable_line

if TYPE_CHECKING:
    from selenium.webdriver import Remote

WORLD = "llm-twin"
# An element whose name is "documentElement" hides `document.documentElement`, so the prototypes' own are called.
GETTERS = """
const own = (prototype, name) => Object.getOwnPropertyDescriptor(prototype, name).get.call(document);
const root = own(Document.prototype, 'documentElement');
const find = selector => Document.prototype.querySelector.call(document, selector);
"""
# Scrolls down and says what there is; asked until the answer stays the same.
PROBE = """() => {%s
if (root) window.scrollTo(0, root.scrollHeight);
const navigation = performance.getEntriesByType('navigation')[0];
return {
  loading: own(Document.prototype, 'readyState') === 'loading',
  media: own(Document.prototype, 'contentType'),
  status: navigation ? navigation.responseStatus : 0,
  size: root ? [root.scrollHeight, root.getElementsByTagName('*').length, root.textContent.length] : [],
}}"""
# The whole page; when it has more characters than that, how many.
HTML = """most => {%s
const html = root ? root.outerHTML : '';
return html.length > most ? html.length : html}"""
# Ready to be typed into, with all that is in it selected.
FOCUS = """selector => {%s
const field = find(selector);
if (!field) return false;
HTMLElement.prototype.focus.call(field);
field.select?.();
return true}"""
CLICK = """selector => {%s
const button = find(selector);
if (button) HTMLElement.prototype.click.call(button);
return !!button}"""
HOLDS_ALL = "(...selectors) => {%s return selectors.every(selector => find(selector))}"
PAGE_GONE = (  # in what the driver says, in lower case
    "cannot find context",
    "no such execution context",
    "context was destroyed",
    "no frame for given id",
    "no frame with given id",
)


class Frame(NamedTuple):
    """What the main frame shows: `url` without its fragment, `load` changes with every document."""

    id: str
    url: str
    load: str
    failed: bool  # Chromium shows a page of its own, because this one could not be had


class PageGone(Exception):
    """It was left for another one in the middle of a question."""


class ScriptFailed(Exception):
    """A script of ours could not do its work; says why."""


class IsolatedPage:
    """The page in the driver's current tab. Questions raise PageGone, ScriptFailed and what selenium raises."""

    def __init__(self, driver: "Remote") -> None:
        self._driver = driver

    def command(self, method: str, **parameters: object) -> dict[str, Any]:
        """Of the DevTools protocol, past the driver's own scripts; again when a dialog of the page's came between."""
        while (answer := self._send(method, parameters)) is None:
            time.sleep(0.02)
        return answer

    def _send(self, method: str, parameters: Mapping[str, object]) -> dict[str, Any] | None:
        """None when a dialog came between; the driver has dismissed it."""
        from selenium.common.exceptions import UnexpectedAlertPresentException

        try:
            return self._driver.execute("executeCdpCommand", {"cmd": method, "params": parameters})["value"]
        except UnexpectedAlertPresentException:
            return None

    def navigate(self, url: str) -> str:
        """ "" when the browser shows what answered, else the name of the error, as "net::ERR_TIMED_OUT"."""
        answer = self._send("Page.navigate", {"url": url}) or {}  # nothing: the page is there, with a dialog already
        return answer.get("errorText", "")

    def frame(self) -> Frame:
        found = self.command("Page.getFrameTree")["frameTree"]["frame"]
        return Frame(found["id"], found["url"], found["loaderId"], bool(found.get("unreachableUrl")))

    def ask(self, function: str, *arguments: object) -> Any:
        """What a function of ours returns for a document as it is now, as JSON."""
        from selenium.common.exceptions import WebDriverException

        try:
            world = self.command("Page.createIsolatedWorld", frameId=self.frame().id, worldName=WORLD)
            answer = self.command(
                "Runtime.callFunctionOn",
                functionDeclaration=function % GETTERS,
                executionContextId=world["executionContextId"],
                arguments=[{"value": one} for one in arguments],
                returnByValue=True,
            )
        except WebDriverException as error:
            if any(one in str(error).lower() for one in PAGE_GONE):
                raise PageGone from error
            raise
        if failure := answer.get("exceptionDetails"):
            raise ScriptFailed(printable_line(_words(failure)))
        return answer["result"].get("value")

    def html(self, most: int) -> str:
        """Raises FetchError(TOO_LARGE) above so many characters."""
        html = self.ask(HTML, most)
        if not isinstance(html, str):
            raise FetchError(Reason.TOO_LARGE, f"the page grew above {most:,} characters", retry=False)
        return html

    def type_into(self, selector: str, text: str) -> bool:
        """Whether there is such a field."""
        found = bool(self.ask(FOCUS, selector))
        if found:
            self.command("Input.insertText", text=text)
        return found

    def error_name(self) -> str:
        """Of Chromium's own page that says why there is none, as "net::ERR_CONNECTION_REFUSED"."""
        found = re.search(r"\bERR_[A-Z0-9_]{1,80}", self.html(1_000_000))
        return f"net::{found[0] if found else 'ERR_FAILED'}"

    def start_afresh(self) -> None:
        """An empty tab in place of all that there are; none of what they run goes on."""
        fresh = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._driver.switch_to.window(fresh)
        for target in self.command("Target.getTargets")["targetInfos"]:
            if target["type"] == "page" and target["targetId"] != fresh:
                self.command("Target.closeTarget", targetId=target["targetId"])


def _words(failure: Mapping[str, Any]) -> str:
    return str(failure.get("exception", {}).get("description") or failure.get("text"))
