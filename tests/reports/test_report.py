"""The report in a real browser: its contents, and its use by mouse, keyboard and screen reader."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

import rhombus_dataset
from rhombus_dataset.dataset import open_dataset
from rhombus_dataset.html.render import data_uri
from rhombus_dataset.imaging.jpeg import thumbnail
from rhombus_dataset.reports import album
from rhombus_dataset.reports.page import report_html, write_report
from rhombus_dataset.store import manifest
from rhombus_dataset.store.annotations import class_annotation, write_annotations
from rhombus_dataset.store.layout import ANNOTATIONS_FOLDER

HOSTILE = "</script><img src=x onerror=alert(1)>"
PLAN = """\
version: 1
name: shown
seed: 1
source: {type: recordings, site: site.yaml}
cameras:
  - {uuid: DEMO-dock-north-AAAAAA, name: "NAME", timezone: America/Los_Angeles}
  - {uuid: DEMO-gate-east-AAAAAAA, name: gate-east, timezone: Europe/Berlin, views: [full]}
views:
  full: {downscale: 2}
  yard: {crop: {x: 0%, y: 45%, width: 100%, height: 55%}}
windows:
  - {start: 2026-06-02, end: 2026-06-05, daily: ["06:00-21:00"]}
sampling: {strategy: random, frames: 60, min_gap: 1m}
splits: {by: time, block: 1h, fractions: {train: 0.7, test: 0.3}}
output: {format: jpeg, frames_per_shard: 25}
"""
SITE = """\
locations:
  - {uuid: DEMO-location-OaklandA, name: Oakland, tz: America/Los_Angeles}
cameras:
  - uuid: DEMO-dock-north-AAAAAA
    name: dock-north
    location: Oakland
    recordings:
      - {scene: demo, start: 2025-10-25, duration: 3d}
      - {scene: demo, start: 2026-06-01, duration: 7d}
  - uuid: DEMO-gate-east-AAAAAAA
    name: gate-east
    location: Oakland
    recordings:
      - {scene: demo, start: 2026-06-01, duration: 60h}
"""
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def build(folder: Path, *changes: tuple[str, str]) -> Path:
    """Build a dataset of drawn footage, from PLAN with these replacements."""
    folder.mkdir(exist_ok=True)
    (folder / "site.yaml").write_text(SITE)
    text = PLAN.replace("NAME", HOSTILE)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "plan.yaml").write_text(text)
    rhombus_dataset.build(folder / "plan.yaml", folder / "built")
    return folder / "built"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = build(tmp_path_factory.mktemp("report"))
    frames = list(open_dataset(dataset))[:7]
    labels = [class_annotation(frame.frame_id, "<b>van</b>", made_by="me") for frame in frames]
    (dataset / ANNOTATIONS_FOLDER).mkdir()
    write_annotations(
        dataset / ANNOTATIONS_FOLDER / "vans.parquet", [dataclasses.asdict(label) for label in labels]
    )
    write_report(dataset)
    return dataset


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "these tests drive a real browser: install chromium (Debian: apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """A function that opens a report from disk. At the end, the pages had no errors and made no requests."""
    wrong: list[str] = []
    asked: list[str] = []
    allowed: set[str] = set()
    pages: list[Page] = []

    def refuse(dialog: Dialog) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open_report(path: Path, size: str = "desktop", scheme: Any = "light", fragment: str = "") -> Page:
        width, height = SIZES[size]
        page = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        ).new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", refuse)
        own = path.as_uri()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(own + fragment)
        pages.append(page)
        allowed.add(own)
        return page

    yield open_report
    for page in pages:
        page.wait_for_timeout(50)
        page.context.close()
    assert wrong == []
    assert [url for url in asked if url.split("#")[0] not in allowed and not url.startswith("data:")] == []


def shown(page: Page) -> list[dict[str, str]]:
    """Return the data attributes of the visible images."""
    found: list[dict[str, str]] = page.evaluate(
        "[...document.querySelectorAll('[data-images]')].filter(e => e.checkVisibility())"
        ".map(e => ({...e.dataset}))"
    )
    return found


def count(page: Page) -> tuple[int, int]:
    words = page.locator("#count").inner_text().split(" ")
    return int(words[0]), int(words[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_opens_from_the_disk_and_fits(built: Path, opened: Opened, size: str, scheme: str) -> None:
    page = opened(built / "report.html", size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("h1").inner_text() == "shown"
    assert page.locator("figure img").count() > 20
    page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 23, 27)"
    assert dark == (scheme == "dark")
    assert faint(page) == []


def faint(page: Page) -> list[str]:
    """Return the texts whose contrast with their background is below 4.5 (WCAG 2.2, 1.4.3)."""
    found: list[str] = page.evaluate("""() => {
      const parts = (c) => c.match(/[\\d.]+/g).map(Number);
      const light = (c) => {
        const [r, g, b] = parts(c).map((v) => (v <= 10.31 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const behind = (e) => {
        for (; e; e = e.parentElement) {
          const c = getComputedStyle(e).backgroundColor;
          if (parts(c)[3] !== 0) return c;
        }
      };
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      const wrong = new Set();
      while (walker.nextNode()) {
        const e = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest("script, option")) continue;
        const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) wrong.add(`${e.tagName} ${e.className} ${e.textContent.slice(0, 30)}: ${ratio}`);
      }
      return [...wrong];
    }""")
    return found


def test_a_cell_of_the_heat_map_filters_by_mouse(built: Path, opened: Opened) -> None:
    page = opened(built / "report.html")
    everything = count(page)[1]
    assert count(page)[0] == everything == sum(int(image["images"]) for image in shown(page))
    cell = page.locator(".heat.hour button:not(.l0)[data-camera='1']").first
    label = cell.get_attribute("aria-label") or ""
    cell.click()
    hour = str(int(label.removeprefix("gate-east, ")[:2]))
    images = shown(page)
    assert images
    assert all(p["camera"] == "1" and hour in p["hour"].split() for p in images)
    assert count(page) == (sum(int(p["images"]) for p in images), everything)
    assert cell.get_attribute("aria-pressed") == "true"
    assert page.url.endswith(f"#camera=gate-east&hour={int(hour):02d}")
    page.locator("#bar button[data-clear]").click()
    assert len(shown(page)) > len(images)
    assert count(page) == (everything, everything)
    assert "#" not in page.url
    page.go_back()
    assert shown(page) == images


def test_a_cell_of_the_heat_map_filters_by_keyboard(built: Path, opened: Opened) -> None:
    page = opened(built / "report.html", "phone")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for key in ("Enter", "Space"):
        page.locator(".heat.day button:not(.l0)").first.focus()
        page.keyboard.press(key)
        images = shown(page)
        assert images
        assert all(p["camera"] == "0" and "0" in p["day"].split() for p in images)
        assert "day=2026-06-02" in page.url
        page.locator("#bar button[data-clear]").focus()
        page.keyboard.press(key)
        assert count(page)[0] == count(page)[1]


def test_selects_filter_and_images_are_arranged(built: Path, opened: Opened) -> None:
    page = opened(built / "report.html")
    page.select_option("select[data-key=status]", label="missing")
    assert shown(page)
    assert {p["status"] for p in shown(page)} == {"1"}
    page.select_option("select[data-key=status]", label="ok")
    page.select_option("select[data-key=split]", label="test")
    page.select_option("select[data-key=view]", label="yard")
    before = shown(page)
    assert all("1" in p["split"].split() and p["view"] == "1" and p["status"] == "0" for p in before)
    page.select_option("#arrange", label="hour")
    assert sorted(map(str, shown(page))) == sorted(map(str, before))
    titles = page.locator("#sheets .by-hour:not([hidden]) h3").all_inner_texts()
    assert titles == sorted(titles) != []
    page.select_option("#arrange", label="camera")
    assert shown(page) == before


def test_a_link_holds_the_filter(built: Path, opened: Opened) -> None:
    page = opened(built / "report.html", fragment="#split=test&camera=gate-east")
    assert shown(page)
    assert all("1" in p["split"].split() and p["camera"] == "1" for p in shown(page))
    assert page.locator("select[data-key=camera]").input_value() == "1"
    page.locator("nav a[href='#splits']").click()
    assert page.url.endswith("#split=test&camera=gate-east")
    assert page.locator("#splits h2").evaluate("heading => heading === document.activeElement")
    page.evaluate("location.hash = 'split=nonsense'")
    page.wait_for_function("document.getElementById('clear').hidden")
    assert count(page)[0] == count(page)[1]


def test_hostile_names_are_text(built: Path, opened: Opened) -> None:
    text = (built / "report.html").read_text()
    assert "<img src=x" not in text
    assert text.count("</script>") == 1
    page = opened(built / "report.html")
    page.locator(".heat.hour button:not(.l0)[data-camera='0']").first.click()
    assert HOSTILE in page.locator("#count").inner_text()
    assert page.locator("img[src=x]").count() == 0
    page.reload()
    assert {p["camera"] for p in shown(page)} == {"0"}
    assert "<b>van</b>" in page.locator("#labels").inner_text()


def test_a_screen_reader_finds_its_way(built: Path, opened: Opened) -> None:
    page = opened(built / "report.html")
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("[...document.images].every(image => image.alt.trim())")
    assert page.evaluate(
        "[...document.querySelectorAll('button')].every(b => (b.ariaLabel ?? b.textContent).trim())"
    )
    assert page.evaluate("[...document.querySelectorAll('select')].every(s => s.labels.length)")
    assert page.evaluate("[...document.querySelectorAll('[role=img], [role=region]')].every(e => e.ariaLabel)")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert [page.locator(landmark).count() for landmark in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    for target in page.evaluate("[...document.querySelectorAll('a')].map(a => a.hash.slice(1))"):
        assert target in ids
    assert page.evaluate("[...document.querySelectorAll('th')].every(th => th.scope)")
    cell = page.locator(".heat.hour button").first
    cell.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_every_planned_frame_is_counted(built: Path, opened: Opened) -> None:
    page = opened(built / "report.html")
    rows = manifest.read_manifest(built).to_pandas()
    ok = int((rows["status"] == "ok").sum())
    assert 0 < ok < len(rows)
    for heat in (".heat.hour", ".heat.day"):
        labels = page.locator(f"{heat} button").evaluate_all("all => all.map(b => b.ariaLabel)")
        ends = [re.sub(" frames?$", "", label).rsplit(", ", 1)[1].split(" of ") for label in labels]
        assert sum(int(end[0]) for end in ends) == ok
        assert sum(int(end[-1]) for end in ends) == len(rows)
    assert "NO_FOOTAGE_AT_TIMESTAMP" in page.locator("#outcomes").inner_text()
    assert page.locator("#extremes .pair").count() >= 1
    assert "7 of" in page.locator("#labels tfoot").inner_text()


def test_hours_are_those_of_the_wall_clock(tmp_path: Path) -> None:
    dataset = build(
        tmp_path,
        ('"06:00-21:00"', '"00:00-24:00"'),
        ("start: 2026-06-02, end: 2026-06-05", "start: 2025-10-26, end: 2025-10-27"),
        ("{strategy: random, frames: 60, min_gap: 1m}", "{strategy: interval, every: 30m}"),
        ("timezone: America/Los_Angeles", "timezone: Europe/Berlin, views: [full]"),
        (HOSTILE, "berlin"),
    )
    page = report_html(dataset)
    # The hour from two to three occurs twice.
    for hour, frames in ((1, 2), (2, 4), (3, 2)):
        assert f'aria-label="berlin, {hour:02d}:00 to {hour + 1:02d}:00, {frames} frames"' in page
    assert 'aria-label="berlin, Sun 2025-10-26, 50 frames"' in page


def test_the_same_dataset_has_the_same_report(built: Path, tmp_path: Path) -> None:
    assert report_html(built).encode() == (built / "report.html").read_bytes()
    shutil.copytree(built, tmp_path / "elsewhere")
    assert write_report(tmp_path / "elsewhere", tmp_path / "other.html") == tmp_path / "other.html"
    assert (tmp_path / "other.html").read_bytes() == (built / "report.html").read_bytes()


def test_a_dataset_that_is_being_built(built: Path, tmp_path: Path, opened: Opened) -> None:
    part = tmp_path / "part"
    shutil.copytree(built, part)
    slices = manifest.slice_paths(part)
    slices[0].unlink()
    page = opened(write_report(part), "phone")
    assert f"INCOMPLETE: {len(slices) - 1} of {len(slices)} shards" in page.locator("header").inner_text()
    assert "not built yet" in page.locator("#outcomes").inner_text()
    for path in slices[1:]:
        path.unlink()
    page = opened(write_report(part))
    assert f"INCOMPLETE: 0 of {len(slices)} shards" in page.locator("header").inner_text()
    assert count(page) == (0, 0)


def test_a_dataset_without_images(tmp_path: Path, opened: Opened) -> None:
    dataset = build(
        tmp_path,
        ("start: 2026-06-02, end: 2026-06-05", "start: 2026-05-02, end: 2026-05-05"),
        ("site: site.yaml}", "site: site.yaml, limits: {min_success_rate: 0}}"),
    )
    page = opened(write_report(dataset))
    assert "No images" in page.locator("header").inner_text()
    page.locator(".heat.hour button").first.click()
    assert page.locator("img").count() == 0
    assert {p["status"] for p in shown(page)} <= {"1"}


def test_one_frame_of_one_camera_in_one_split(tmp_path: Path, opened: Opened) -> None:
    dataset = build(
        tmp_path,
        ("  - {uuid: DEMO-gate-east-AAAAAAA, name: gate-east, timezone: Europe/Berlin, views: [full]}\n", ""),
        ("timezone: America/Los_Angeles", "timezone: America/Los_Angeles, views: [full]"),
        ("frames: 60", "frames: 1"),
        ("splits: {by: time, block: 1h, fractions: {train: 0.7, test: 0.3}}\n", ""),
    )
    page = opened(write_report(dataset))
    assert "1 with an image, of 1 planned" in page.locator("header").inner_text()
    assert "no splits" in page.locator("#splits").inner_text()
    assert count(page) == (3, 3)  # on the sheet, as the darkest, as the blurriest


def test_an_image_that_cannot_be_shown_has_a_reason(
    built: Path, tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(built, damaged)
    images = sorted((damaged / "data").rglob("*.jpg"))
    for path in images[::2]:
        path.write_bytes(path.read_bytes()[:2000])
    images[1].unlink()
    monkeypatch.setattr(album, "MAX_IMAGE_BYTES", 20_000)
    page = opened(write_report(damaged))
    text = page.locator("#sheets").inner_text()
    for words in (
        "cannot be shown: damaged JPEG",
        "cannot be read",
        "not shown: the page has reached its size limit",
    ):
        assert words in text
    assert str(damaged) not in page.content()
    held = page.evaluate("[...document.images].reduce((sum, image) => sum + image.src.length, 0)")
    assert 0 < held <= 20_000


def test_frames_that_repeat_another_are_shown_as_themselves(tmp_path: Path) -> None:
    """The report shows all frames: frames that readers skip do not shift the images of others."""
    plan = "sampling: {strategy: random, frames: 60, min_gap: 1m}"
    short = "sampling: {strategy: interval, every: 3h}\ndedup: {within: 24h}"
    path = build(tmp_path / "built", (plan, short))
    every = open_dataset(path, duplicates=True)
    assert len(open_dataset(path)) < len(every)
    page = report_html(path)
    shown = [frame for frame in every if frame.frame_id in page]
    assert len(shown) > len(open_dataset(path))
    for frame in shown:
        small = data_uri(thumbnail(frame.read(), album.THUMBNAIL_PX))
        at = page.index(small)
        assert frame.frame_id in page[at - 1500 : at + len(small) + 1500]
