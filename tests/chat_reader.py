"""Someone with the chat page before them in a real browser: asks, sees, clicks."""

from typing import Any, NamedTuple

from waiting import until

VISIBLE = """return [...document.querySelectorAll(arguments[0])]
    .filter((one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true })
                     && one.getClientRects().length)
    .map((one) => [one, one.innerText.trim()])"""


class VisibleElement(NamedTuple):
    """selenium's element, with the text it had when it was found."""

    element: Any
    text: str

    def __getattr__(self, name):
        return getattr(self.element, name)


class Reader:
    def __init__(self, driver, address) -> None:
        self.driver, self.address = driver, address

    def open(self) -> None:
        self.driver.get(self.address)
        self.see("#welcome .card, #welcome .turn")

    def find(self, css) -> "list[VisibleElement]":
        """The visible ones with their texts, all of one moment: the page replaces them as an answer is written."""
        return [VisibleElement(*one) for one in self.driver.execute_script(VISIBLE, css)]

    def see(self, css, words="") -> "VisibleElement":
        """The first visible one that holds the words, as soon as there is one."""
        return until(lambda: next((one for one in self.find(css) if words in one.text), None))

    def ask(self, text) -> None:
        from selenium.webdriver.common.keys import Keys

        self.see("#question button", "Ask")
        box = self.see("#question textarea")
        box.send_keys(text)

        def sent():  # Gradio takes no question while the event of the one before is just ending
            if box.get_attribute("value"):
                box.send_keys(Keys.ENTER)
            return not box.get_attribute("value")

        until(sent)

    def answered(self) -> None:
        """Wholly: a click that comes while Gradio ends the question's event may be lost."""
        self.see("#now .trace")
        self.see("#question button", "Ask")

    def click(self, css, words="") -> None:
        """Not by its place on the screen: the page may just be scrolling."""
        from selenium.common.exceptions import StaleElementReferenceException

        def clicked():
            try:
                element = self.see(css, words).element
                self.driver.execute_script("arguments[0].focus(); arguments[0].click()", element)
            except StaleElementReferenceException:  # replaced since it was seen
                return False
            return True

        until(clicked)

    def script(self, code):
        return self.driver.execute_script(code)

    def phone(self) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
        )
