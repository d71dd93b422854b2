"""The report in a real browser: its contents, and its use by mouse, keyboard and screen reader."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

import rhombus_dataset
from rhombus_dataset.building import fetch as fetch_module
from rhombus_dataset.dataset import open_dataset
from rhombus_dataset.errors import DatasetError
from rhombus_dataset.geometry import Geometry
from rhombus_dataset.html.render import data_uri
from rhombus_dataset.imaging.jpeg import thumbnail
from rhombus_dataset.reports import album
from rhombus_dataset.reports.boxes import colours_of, overlay
from rhombus_dataset.reports.page import report_html, write_report
from rhombus_dataset.store import manifest
from rhombus_dataset.store.annotations import box_annotation, class_annotation, write_annotations
from rhombus_dataset.store.layout import ANNOTATIONS_FOLDER
from tests.building.test_build import same_for_each_frame, write_plan
from tests.scripted_server import Answer, Asked, scripted_server

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
SIZES = {"phone": (375, 812), "desktop": (1280, 900)}
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
    assert "1 image of 1 planned frame" in page.locator("header").inner_text()
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


def test_frames_that_repeat_another_are_shown_as_themselves(tmp_path: Path, opened: Opened) -> None:
    """The report shows all frames: frames that readers skip do not shift the images of others, and are counted."""
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
    top = numbers_at_the_top(opened(write_report(path)))
    assert top["with an image"] == len(every)
    assert top["Near-duplicates"] == len(every) - len(open_dataset(path))
    assert top["Opened"] == len(open_dataset(path))


def across(page: Page) -> list[str]:
    """Return the cells beyond the right edge of the screen, outside of a part that says how to scroll."""
    found: list[str] = page.evaluate("""() => [...document.querySelectorAll("td, th, .key li")]
      .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
      .filter((e) => !e.closest(".away, thead") || e.closest(".heat"))
      .filter((e) => {
        const part = e.closest(".scroll");
        return !part?.closest(".wide") || !getComputedStyle(part, "::before").content.includes("Scroll sideways");
      })
      .map((e) => e.textContent)""")
    return found


def test_every_number_is_visible_on_a_phone(built: Path, opened: Opened) -> None:
    page = opened(built / "report.html", "phone")
    page.wait_for_function("document.querySelector('.heat').closest('.wide')")
    assert across(page) == []
    first = page.locator("#outcomes tbody tr").first
    names = first.locator("td").evaluate_all("all => all.map(e => getComputedStyle(e, '::before').content)")
    assert names[1:] == ['"ok"', '"missing"', '"failed"', '"corrupt"', '"erased"', '"planned"']
    assert page.locator("td.num:not(.counts td):not([data-label])").count() == 0
    desktop = opened(built / "report.html", "desktop")
    assert desktop.locator(".scroll.wide").count() == 0
    assert desktop.locator("#outcomes thead").first.is_visible()


@pytest.mark.parametrize("size", SIZES)
def test_the_navigation_stays_and_covers_no_heading(built: Path, opened: Opened, size: str) -> None:
    page = opened(built / "report.html", size)
    sections = page.evaluate("[...document.querySelectorAll('main > section')].map(e => e.id)")
    links = page.locator("nav a")
    assert links.evaluate_all("all => all.map(a => a.hash.slice(1))") == sections
    for name in ("splits", "coverage", "measures"):
        page.locator(f"nav a[href='#{name}']").click()
        page.wait_for_timeout(50)
        top, bottom = page.evaluate(
            "[document.querySelector('nav').getBoundingClientRect().top,"
            " document.querySelector('nav').getBoundingClientRect().bottom]"
        )
        heading = page.evaluate(f"document.getElementById('{name}-h').getBoundingClientRect().top")
        assert top == 0
        assert bottom <= heading < bottom + 120
        assert bottom < 70
    page.evaluate("location.hash = 'leaks'")
    page.wait_for_timeout(50)
    assert page.evaluate("document.getElementById('leaks').getBoundingClientRect().top") >= bottom


def test_boxes_are_drawn_over_their_images(built: Path, tmp_path: Path, opened: Opened) -> None:
    dataset = shutil.copytree(built, tmp_path / "boxes")
    frames = list(open_dataset(dataset).filter("view == 'full'"))[:3]
    rows = [
        box_annotation(
            frame.frame_id,
            HOSTILE,
            # The lower half is outside of the image.
            (frame.width_px / 4, frame.height_px / 2, frame.width_px / 2, frame.height_px),
            frame.geometry,
            (frame.width_px, frame.height_px),
            made_by="me",
        )
        for frame in frames
    ]
    outside = dataclasses.replace(rows[0], label="outside", x=-1e300, y=5.0, width=1e299, height=1e300)
    write_annotations(
        dataset / ANNOTATIONS_FOLDER / "boxes.parquet", [dataclasses.asdict(row) for row in [*rows, outside]]
    )
    page = opened(write_report(dataset))
    text = (dataset / "report.html").read_text()
    assert "<img src=x" not in text
    examples = page.locator("#labels figure")
    assert examples.count() == 3
    assert set(page.locator("svg text").all_text_contents()) == {HOSTILE[:13] + "…"}
    for figure in examples.all():
        box = figure.locator("rect").bounding_box()
        image = figure.locator("img").bounding_box()
        assert box is not None
        assert image is not None
        assert box["x"] == pytest.approx(image["x"] + image["width"] / 4, abs=2)
        assert box["width"] == pytest.approx(image["width"] / 2, abs=4)
        assert box["y"] == pytest.approx(image["y"] + image["height"] / 2, abs=2)
        assert box["y"] + box["height"] <= image["y"] + image["height"] + 2
        assert HOSTILE[:29] in figure.locator("figcaption").inner_text()
    assert any("outside" in text for text in examples.locator("figcaption").all_inner_texts())
    for frame in frames:
        assert data_uri(thumbnail(frame.read(), album.THUMBNAIL_PX)) in text
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_a_long_list_of_boxes_is_cut() -> None:
    frame_id = "0" * 20
    whole = Geometry(1, 0, 0, 10_000, 10_000)
    rows = [
        box_annotation(frame_id, f"{i:03d}" + "x" * 500, (i, i, 5, 5), whole, (640, 360), made_by="me")
        for i in range(300)
    ]
    drawn = overlay(rows, (640, 360), colours_of(row.label for row in rows))
    assert drawn is not None
    assert len(drawn["boxes"]) == 20
    assert "300 boxes" in drawn["caption"]
    assert "20 boxes drawn" in drawn["caption"]
    assert "296 other labels" in drawn["caption"]
    assert len(str(drawn)) < 20_000


def numbers_at_the_top(page: Page) -> dict[str, int]:
    rows = page.locator(".counts tr").evaluate_all(
        "all => all.map(r => [r.cells[0].innerText, r.cells[1].innerText])"
    )
    return {name: int(number.replace(",", "")) for name, number in rows}


def table(page: Page, selector: str) -> list[list[str]]:
    """Return the texts of the cells of a table's rows, without its head."""
    found: list[list[str]] = page.locator(f"{selector} table").first.evaluate(
        "t => [...t.rows].filter(r => r.parentElement.tagName !== 'THEAD')"
        ".map(r => [...r.cells].map(c => c.innerText.replaceAll(',', '')))"
    )
    return found


def test_the_numbers_add_up(tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 120 planned frames some are missing, some failed, and one shard is not built yet."""

    def script(asked: Asked) -> Answer:
        second = asked.body["timestampMs"] // 30_000
        if second % 7 == 0:
            return Answer(body=json.dumps({"status": "NO_FOOTAGE_AT_TIMESTAMP"}).encode())
        return Answer(400, b'{"errorMsg": "not now"}') if second % 11 == 0 else same_for_each_frame(asked)

    views = {"full": {"downscale": 4}, "half": {"downscale": 8}}
    monkeypatch.setattr(fetch_module, "BACKOFF_BASE_S", 0.01)
    with scripted_server(script) as server:
        plan = write_plan(tmp_path, server.url, views=views, output={"frames_per_shard": 50})
        with contextlib.suppress(DatasetError):
            rhombus_dataset.build(plan, tmp_path / "built")
    manifest.slice_paths(tmp_path / "built")[-1].unlink()
    rows = manifest.read_manifest(tmp_path / "built").to_pandas()
    page = opened(write_report(tmp_path / "built"))
    top = numbers_at_the_top(page)
    statuses = {name: top.get(name, 0) for name in ("missing", "failed", "not built yet")}
    assert min(statuses.values()) > 0
    assert top["missing"] == (rows["status"] == "missing").sum()
    assert top["failed"] == (rows["status"] == "failed").sum()
    assert top["with an image"] == top["Opened"] == len(open_dataset(tmp_path / "built"))
    assert top["with an image"] + sum(statuses.values()) == top["Planned frames"]
    assert 2 * top["Planned moments"] == top["Planned frames"]
    assert f"{top['Planned moments']} moments with 2 views" in page.locator(".counts").inner_text()
    ok, planned = top["with an image"], top["Planned frames"]
    assert f"{ok} images of {planned} planned frames" in page.locator(".lead").inner_text()
    without = statuses["missing"] + statuses["failed"]
    listed = f"{statuses['missing']} missing, {statuses['failed']} failed"
    finding = page.locator(".findings").inner_text()
    assert f"{without} of {planned} planned frames" in finding
    assert listed in finding

    *cameras, total = table(page, "#outcomes")
    names = page.locator("#outcomes table").first.locator("thead th").all_inner_texts()
    assert total[2:] == [str(sum(int(row[i]) for row in cameras)) for i in range(2, len(names))]
    assert dict(zip(names[2:], map(int, total[2:]), strict=True)) == {
        "ok": ok, "corrupt": 0, "erased": 0, "planned": planned, **statuses
    }  # fmt: skip
    for row in [*cameras, total]:
        assert sum(map(int, row[2:-1])) == int(row[-1])
    reasons = table(page, "#outcomes .scroll + h3 ~ .scroll")
    assert int(reasons[-1][-1]) == without == sum(map(int, reasons[-1][1:-1]))
    *_, splits = table(page, "#splits")
    assert splits[-1] == f"{ok} of {planned}"
    assert sum(int(cell.split(" ")[0]) for cell in splits[1:-1]) == ok
    measured = page.locator("#measures .what").first.inner_text()
    assert f"all {ok} images" in measured
    assert sum(int(row[1]) for row in table(page, "#measures")) == ok
    on_sheet = page.locator("#sheets img").count()
    assert top["Sample below"] == on_sheet
    assert f"contains {page.locator('img').count()} thumbnails" in page.locator("footer").inner_text()
    assert count(page)[1] == page.locator("#images figure, #extremes figure").count()


def test_scouted_frames_say_why_they_were_chosen(tmp_path: Path, opened: Opened) -> None:
    dataset = build(
        tmp_path,
        ("start: 2026-06-02, end: 2026-06-05", "start: 2026-06-02T09:00, end: 2026-06-02T09:15"),
        (', daily: ["06:00-21:00"]', ""),
        (
            "{strategy: random, frames: 60, min_gap: 1m}",
            "{strategy: scout, every: 30s, downscale: 8, frames_per_camera: 30, quiet: 0.2}",
        ),
        ("block: 1h", "block: 1m"),
    )
    rows = manifest.read_manifest(dataset).to_pandas()
    page = opened(write_report(dataset), "phone")
    assert across(page) == []
    *reasons, total = table(page, "#choices")
    assert sum(int(row[1]) for row in reasons) == int(total[1]) == len(rows)
    assert sum(int(row[2]) for row in reasons) == int(total[2]) == (rows["status"] == "ok").sum()
    quiet = rows[rows["chosen_for"].str.startswith("quiet")]
    by_name = {row[0]: row for row in reasons}
    assert int(by_name["quiet: nothing is new"][1]) == len(quiet) > 0
    first = rows[rows["chosen_for"].str.contains("the first of an event")]
    row = by_name["new: the first of an event"]
    assert int(row[1]) == len(first) > 0
    assert row[3:] == [f"{score:.3f}" for score in first["score"].quantile([0, 0.5, 1])]
    shown = first.iloc[0]
    caption = page.locator(f"#sheets figure:has-text('{shown['frame_id']}') figcaption")
    assert f"new: the first of an event, score {shown['score']:.3f}" in caption.inner_text()
    assert caption.locator("span[title]").get_attribute("title") == shown["chosen_for"]
    moments = len(rows.drop_duplicates(["camera_uuid", "timestamp"]))
    assert f"It chose {moments} moments" in page.locator("#choices").inner_text()
    note = page.locator(".findings").inner_text()
    assert f"{moments} of 60 frames were chosen" in note
    assert (
        f"A note of the plan counts moments, before they become frames: {moments} moments give {len(rows)}" in note
    )


def test_cells_that_are_all_alike_have_one_step(tmp_path: Path, opened: Opened) -> None:
    dataset = build(
        tmp_path,
        ("start: 2026-06-02, end: 2026-06-05", "start: 2026-06-02, end: 2026-06-03"),
        ("06:00-21:00", "09:00-12:00"),
        ("{strategy: random, frames: 60, min_gap: 1m}", "{strategy: interval, every: 20m}"),
        ("name: gate-east, timezone: Europe/Berlin", "name: gate-east, timezone: America/Los_Angeles"),
        ("timezone: America/Los_Angeles}\n", "timezone: America/Los_Angeles, views: [full]}\n"),
        ("splits: {by: time, block: 1h, fractions: {train: 0.7, test: 0.3}}\n", ""),
    )
    page = opened(write_report(dataset))
    hours, days = (page.locator(".key").nth(i).locator("li").all_inner_texts() for i in (0, 1))
    assert hours == ["3 images", "· nothing planned"]
    assert days == ["9 images"]
