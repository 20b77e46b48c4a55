"""The report in a browser: what a reader can do there, by mouse, by keyboard, on a phone, in the dark, and offline."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from report_runs import HOSTILE, hostile, save_run

from wronglung import Dataset, load_dataset
from wronglung.benchmark.results import MAPS
from wronglung.leaderboard.examples import Heat
from wronglung.leaderboard.heatmaps import OPACITY, RISE, STRONGEST, density
from wronglung.leaderboard.report import write_report
from wronglung.leaderboard.report.maps import Asked, SavedMaps

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

PAGES = ("index.html", "model-01.html", "gallery.html")


@pytest.fixture(scope="module")
def data(sketch_file: Path) -> Dataset:
    return hostile(load_dataset("jsonl", sketch_file))


@pytest.fixture(scope="module")
def runs(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "mine": save_run(root / "mine", "random", data, name=f"mine {HOSTILE}"),
        "mirrored-oracle": save_run(root / "mirrored", "mirrored-oracle", data),
        "oracle": save_run(root / "oracle", "oracle", data),
        "uniform": save_run(root / "uniform", "uniform", data, maps=False),
    }


@pytest.fixture(scope="module")
def site(runs: dict[str, Path], data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "report"
    return write_report(list(runs.values()), out, dataset=data, published=True, title=f"Report {HOSTILE}").parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Visit:
    """A page with all that went wrong on it."""

    page: Page
    site: Path
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, name: str) -> Page:
        self.page.goto((self.site / name).as_uri())
        ready = {"index.html": "button.sort", "gallery.html": ".card[data-painted]"}.get(name, "main")
        self.page.wait_for_selector(ready)
        return self.page


@pytest.fixture
def visit(browser: Browser, site: Path) -> Iterator[Visit]:
    """A page at a desk; whatever it complains of, runs or requests from beyond the folder fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield from watched(context.new_page(), site)
    context.close()


def watched(page: Page, site: Path) -> Iterator[Visit]:
    one = Visit(page, site)
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective}`))"
    )
    page.on(
        "console", lambda message: one.troubles.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: one.troubles.append(str(error)))
    page.on("dialog", lambda dialog: one.troubles.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: one.requests.append(request.url))
    yield one
    assert one.troubles == []
    assert [url for url in one.requests if not url.startswith(site.as_uri())] == []
    assert page.evaluate("window.ran") is None


def models(page: Page) -> list[str]:
    """The names in the leaderboard's first body, from the top."""
    return [text.strip() for text in page.locator("table.board tbody").first.locator("th a").all_inner_texts()]


class TestLeaderboard:
    def test_is_sorted_by_a_click_and_the_other_way_by_another(self, visit: Visit) -> None:
        page = visit.open("index.html")
        assert models(page)[0] == "oracle"
        assert models(page)[-1] == "mirrored-oracle"
        heading = page.locator("th", has=page.get_by_role("button", name="AUROC", exact=False)).first
        assert heading.get_attribute("aria-sort") == "descending"
        heading.get_by_role("button").click()
        assert models(page)[0] == "mirrored-oracle"
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("AUROC")
        assert "sorted by AUROC, ascending" in page.get_by_role("status").inner_text()

    def test_is_sorted_by_keyboard_and_the_focus_stays(self, visit: Visit) -> None:
        page = visit.open("index.html")
        page.get_by_role("button", name="AP", exact=False).first.focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.textContent").startswith("AP")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Model")
        assert models(page) == sorted(models(page), key=str.lower)

    def test_shows_other_subsets_and_columns(self, visit: Visit) -> None:
        page = visit.open("index.html")
        caption = page.locator("table.board caption")
        assert caption.inner_text().startswith("Overview on one_lung: ")
        page.get_by_label("Subset").select_option(label="all")
        expect(caption).to_have_text("Overview on all: 36 instances, 12 patients")
        page.get_by_label("Columns").select_option(label="Swap left and right")
        assert caption.inner_text() == "Swap left and right on all: 36 instances, 12 patients"
        swapped = page.locator("table.board tbody").first.locator("tr", has_text="mirrored-oracle").locator("td")
        assert any(text.startswith("+") for text in swapped.all_inner_texts())
        assert page.locator(".published").count() == 1
        page.get_by_label("Intervals").uncheck()
        assert not page.locator(".interval").first.is_visible()

    def test_is_there_without_scripts(self, browser: Browser, site: Path) -> None:
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto((site / "index.html").as_uri())
        with_scripts = browser.new_page()
        with_scripts.goto((site / "index.html").as_uri())
        with_scripts.wait_for_selector("button.sort")
        assert models(page) == models(with_scripts)
        figures = "table.board tbody:first-of-type td"
        assert page.locator(figures).all_inner_texts() == with_scripts.locator(figures).all_inner_texts()
        with_scripts.close()
        context.close()


class TestGallery:
    def test_filters_by_subset_and_by_words(self, visit: Visit) -> None:
        page = visit.open("gallery.html")
        status, cards = page.get_by_role("status"), page.locator(".card")
        page.get_by_label("Subset").select_option(label="all")
        expect(status).to_have_text("36 of 36 instances · page 1 of 2")
        page.get_by_role("button", name="Next page").first.click()
        expect(status).to_have_text("36 of 36 instances · page 2 of 2")
        expect(cards).to_have_count(36 - 24)
        page.get_by_label("Words or id").fill("SENTENCE-7-qzx lung")
        expect(status).to_have_text("1 of 36 instances · page 1 of 1")
        expect(cards.locator("q").first).to_contain_text("sentence-7-qzx")
        page.get_by_label("Words or id").fill("no such words")
        expect(status).to_have_text("No instance fits.")
        page.get_by_label("Words or id").fill("")
        expect(cards).to_have_count(24)
        page.get_by_label("Only where").check()
        expect(status).not_to_contain_text("36 of 36")
        assert 0 < int(status.inner_text().split()[0]) < 36
        assert (
            page.locator(".card figure:nth-child(2)").count()
            == page.locator(".card figure:nth-child(2):has(del)").count()
        )

    def test_is_in_order_of_the_change(self, visit: Visit) -> None:
        page = visit.open("gallery.html")
        page.get_by_label("Model", exact=True).select_option(label="oracle (ceiling)")

        def changes() -> list[float]:
            texts = page.locator(".card strong").all_text_contents()
            return [float(text.removeprefix("Δ ").replace("−", "-")) for text in texts]

        page.get_by_label("Subset").select_option(label="all")
        # The oracle falls wherever a side is named, and no other model here does by so much.
        expect(page.locator(".card strong").first).to_have_text(re.compile("Δ −[5-9]"))
        assert changes() == sorted(changes())
        page.get_by_label("Order").select_option(label="Δ under the swap, what rose most first")
        expect(page.locator(".card strong").first).not_to_have_text(re.compile("Δ −[5-9]"))
        assert changes() == sorted(changes(), reverse=True)

    def test_shows_what_changed_in_the_sentence(self, visit: Visit) -> None:
        page = visit.open("gallery.html")
        first = page.locator(".card", has=page.locator("del")).first
        removed, added = first.locator("del").all_inner_texts(), first.locator("ins").all_inner_texts()
        sides = {"left": "right", "right": "left"}
        assert [sides[one.lower()] for one in removed] == [one.lower() for one in added]

    def test_opens_an_instance_goes_on_by_arrows_and_closes_by_escape(self, visit: Visit) -> None:
        page = visit.open("gallery.html")
        opener = page.locator(".card button.open").first
        opener.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        assert dialog.is_visible()
        page.wait_for_selector("#viewer-panels[data-painted]")
        first = dialog.locator("h2").inner_text()
        assert "1 of " in first
        page.keyboard.press("ArrowRight")
        assert "2 of " in dialog.locator("h2").inner_text()
        page.keyboard.press("ArrowLeft")
        assert dialog.locator("h2").inner_text() == first
        page.wait_for_selector("#viewer-table tbody tr")
        assert dialog.locator("tbody tr").count() == 3
        dialog.get_by_role("button", name="mirrored-oracle").click()
        expect(page.locator("#viewer-title")).to_contain_text("mirrored-oracle")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert page.evaluate("document.activeElement.className") == "open"

    def test_a_models_page_leads_to_its_maps(self, visit: Visit) -> None:
        page = visit.open("index.html")
        page.locator("table.board").get_by_role("link", name="mirrored-oracle").click()
        page.get_by_role("link", name="See what it looks at").click()
        page.wait_for_selector(".card[data-painted]")
        chosen = page.evaluate("document.getElementById('model').selectedOptions[0].text")
        assert chosen == "mirrored-oracle (floor)"

    def test_draws_the_maps_where_they_lie(self, visit: Visit, runs: dict[str, Path], data: Dataset) -> None:
        """Every pixel's opacity is that of the pictures that the demo draws, which are held against the scoring."""
        page = visit.open("gallery.html")
        page.get_by_label("Model", exact=True).select_option(label="oracle (ceiling)")
        page.get_by_label("Subset").select_option(label="all")
        page.get_by_label("Words or id").fill("sentence-4-qzx")
        expect(page.locator(".card q").first).to_contain_text("sentence-4-qzx")
        page.wait_for_selector(".card[data-painted]")
        drawn: Any = page.evaluate(
            """() => {
              const canvas = document.querySelector(".card canvas[data-task=original]");
              const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              return { width, height, opacity: Array.from(data).filter((_, at) => at % 4 === 3) };
            }"""
        )
        import pandas as pd

        instance = data.instances[4]
        frame = pd.read_parquet(runs["oracle"] / "instances.parquet")
        row = frame[(frame["instance_id"] == instance.id) & (frame["task"] == "original")].iloc[0]
        maps = SavedMaps.open(runs["oracle"], {})
        assert maps is not None
        assert maps.file == runs["oracle"] / MAPS
        saliency = maps._tensor(Asked(instance.image_id, row["sentence_sha256"], 0.0)).double()
        heat = Heat(saliency / saliency.sum(), maps.geometry(instance.image_id))
        relative = density(heat, drawn["width"], drawn["height"])
        strength = ((relative - 1) / (STRONGEST - 1)).clip(0, 1)
        expected = strength**RISE * OPACITY * 255
        found = np.array(drawn["opacity"], dtype=float).reshape(drawn["height"], drawn["width"])
        assert expected.max() > 150
        # A map of eight bits is off by up to half a step, which the power enlarges where colour sets in.
        assert np.abs(found - expected).mean() < 1.5
        assert np.quantile(np.abs(found - expected), 0.99) < 12


@pytest.mark.parametrize("name", PAGES)
class TestEveryPage:
    def test_is_read_on_a_phone_without_scrolling_sideways(self, browser: Browser, site: Path, name: str) -> None:
        context = browser.new_context(viewport={"width": 375, "height": 700})
        for visit in watched(context.new_page(), site):
            page = visit.open(name)
            assert page.evaluate("document.documentElement.scrollWidth") <= 375
            if name == "gallery.html":
                page.locator(".card button.open").first.click()
                page.wait_for_selector("#viewer-panels[data-painted]")
                assert page.evaluate("document.getElementById('viewer').scrollWidth") <= 375
        context.close()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_has_text_that_stands_out(self, browser: Browser, site: Path, name: str, scheme: Any) -> None:
        context = browser.new_context(color_scheme=scheme)
        for visit in watched(context.new_page(), site):
            page = visit.open(name)
            background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert (sum(int(part) for part in background[4:-1].split(",")) < 200) == (scheme == "dark")
            assert page.evaluate(LOW_CONTRAST) == []
        context.close()

    def test_can_be_heard(self, visit: Visit, name: str) -> None:
        page = visit.open(name)
        assert page.locator("h1").count() == 1
        levels = [
            int(tag[1])
            for tag in page.evaluate(
                "[...document.querySelectorAll('main h1, main h2, main h3')].map((one) => one.tagName)"
            )
        ]
        assert all(after - before <= 1 for before, after in pairwise(levels))
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() >= 1, landmark
        assert (
            page.evaluate(
                "[...document.querySelectorAll('table:not(.plain)')].filter((one) => one.id !== 'viewer-table' && !one.caption).length"
            )
            == 0
        )
        assert page.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
        assert (
            page.evaluate("[...document.querySelectorAll('select, input')].filter((one) => !one.labels.length).length")
            == 0
        )
        assert (
            page.evaluate("[...document.querySelectorAll('img')].filter((one) => !one.hasAttribute('alt')).length") == 0
        )
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.locator(".skip").is_visible()


LOW_CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([red, green, blue]) => [red, green, blue]
    .map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      layers.push(colour.length === 3 ? [...colour, 1] : colour);
    }
    return layers.reverse().reduce((under, [red, green, blue, opacity]) =>
      under.map((one, at) => one * (1 - opacity) + [red, green, blue][at] * opacity), [255, 255, 255]);
  };
  return [...document.querySelectorAll("body *")]
    .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((one) => one.checkVisibility() && !one.matches(":disabled, noscript, option"))
    .map((one) => {
      const [over, under] = [light(numbers(getComputedStyle(one).color)), light(behind(one))];
      return [one.tagName, one.textContent.slice(0, 30), (Math.max(over, under) + 0.05) / (Math.min(over, under) + 0.05)];
    })
    .filter(([, , contrast]) => contrast < 4.5);
}"""
