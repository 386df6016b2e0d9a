"""A hand that clicks on the page, and counts its clicks for each thing that is done."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

from tests.end_to_end.demo_service import SEEN_LIMIT_MS

__all__ = ["Hand"]


class Hand:
    """Clicks, and counts the clicks of each part of a way.

    Attributes
    ----------
    clicks : int
        Since the last part has ended.
    counts : dict of str to int
        Clicks of each part.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0
        self.counts: dict[str, int] = {}

    def click(self, at: Locator) -> None:
        """Click on something."""
        at.click(timeout=SEEN_LIMIT_MS)
        self.clicks += 1

    def button(self, name: str) -> None:
        """Click on the button of exactly this name."""
        self.click(self.page.get_by_role("button", name=name, exact=True))

    def link(self, name: str) -> None:
        """Click on the link of exactly this name."""
        self.click(self.page.get_by_role("link", name=name, exact=True))

    def view(self, name: str) -> None:
        """Go to a view by the rail."""
        self.click(self.page.get_by_role("navigation", name="Views").get_by_role("link", name=name))

    def type(self, at: Locator, text: str) -> None:
        """Click into a field, write into it, and press Enter."""
        self.click(at)
        at.fill(text)
        at.press("Enter")

    def choose(self, at: Locator, option: str) -> None:
        """Open a list and choose from it: two clicks."""
        at.select_option(option)
        self.clicks += 2

    def done(self, what: str) -> None:
        """End a part of the way."""
        self.counts[what] = self.clicks
        self.clicks = 0
