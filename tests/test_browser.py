"""The pages in a real browser: what a radiology department sees."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import operator_key
from db.keys import Scope
from tests.access import key
from tests.service import Service
from training import phantoms

Radiograph = Callable[[int], bytes]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium: .ci/run installs it")
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()


@pytest.fixture(params=[1280, 390])
def stranger(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """An empty page, as wide as a desk and as a telephone, in a browser that nobody signed in."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert [error for error in errors if "422" not in error and "401" not in error] == []


@pytest.fixture
def page(stranger: Page, service: Service) -> Page:
    """A page of a browser that was signed in by a link, as `cxr up` prints one."""
    link = operator_key.link(service.settings, service.instance.url)
    assert link
    stranger.goto(link)
    expect(stranger.get_by_role("button", name="Submit")).to_be_visible()
    return stranger


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_files_are_submitted_and_the_page_moves_to_the_end(service: Service, page: Page, tmp_path: Path) -> None:
    files = phantoms.write(tmp_path, count=5, seed=1)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    page.goto(service.instance.url)
    page.locator("input[type=file]").set_input_files([*files, broken])
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("h1")).to_contain_text("partial", timeout=PATIENCE_MS)
    expect(page.locator("tbody tr")).to_have_count(6)
    expect(page.locator("tbody")).to_contain_text("truncated")
    expect(page.get_by_role("note")).to_contain_text("not a medical device")
    assert fits(page)
    _picture(page, "batch")


def test_a_label_is_given_on_the_page_and_stands_there(service: Service, page: Page, tmp_path: Path) -> None:
    (file,) = phantoms.write(tmp_path, count=1, seed=11)
    batch_id = service.submit({"<b>ward-3</b>.png": file.read_bytes()})
    (line,) = service.wait(batch_id)
    page.goto(f"{service.instance.url}/batches/{batch_id}")
    label_it = page.get_by_role("button", name="Label <b>ward-3</b>.png")
    label_it.click()
    dialog = page.get_by_role("dialog", name="Ground truth of <b>ward-3</b>.png")
    dialog.get_by_label("Found").select_option("positive")
    dialog.get_by_role("button", name="Cancel").click()
    label_it.click()
    expect(dialog.get_by_label("Found")).to_have_value("")
    dialog.get_by_label("Given by").fill("laboratory, night shift")
    dialog.get_by_role("button", name="Keep").click()
    expect(dialog).to_be_visible()  # nothing is chosen for anybody
    dialog.get_by_label("Found").select_option("negative")
    _picture(page, "label")
    assert fits(page)
    with page.expect_navigation():
        dialog.get_by_role("button", name="Keep").click()
    expect(page.locator("tbody")).to_contain_text("RT-PCR, laboratory, night shift")
    assert fits(page)
    _picture(page, "labelled")
    (label,) = service.http.get("/v1/labels", params={"image_sha256": line.sha256}).json()["data"][:1]
    assert (label["label"], label["source"]) == ("negative", "rt_pcr")


def test_who_may_not_label_is_not_asked_to(service: Service, stranger: Page, radiograph: Radiograph) -> None:
    batch_id = service.submit({"a.png": radiograph(5)})
    service.wait(batch_id)
    stranger.goto(f"{service.instance.url}/batches/{batch_id}")
    stranger.get_by_label("API key").fill(key(service.database, {Scope.READ}))
    stranger.get_by_role("button", name="Sign in").click()
    expect(stranger.locator("tbody tr")).to_have_count(1)
    expect(stranger.get_by_role("button", name="Label")).to_have_count(0)


def test_the_start_page_lists_the_batches(service: Service, page: Page, radiograph: Radiograph) -> None:
    batch_id = service.submit({"a.png": radiograph(1)})
    files = {"images": ("a.png", radiograph(2))}
    assert service.http.post("/v1/batches", files=files, params={"synthetic": True}).status_code == 202
    page.goto(service.instance.url)
    row = page.locator("tbody tr", has_text=batch_id.removeprefix("batch_"))
    expect(row).to_contain_text("all classified", timeout=PATIENCE_MS)
    assert fits(page)
    _picture(page, "start")


def test_what_is_no_image_is_refused_in_words(service: Service, page: Page, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no image")
    page.goto(service.instance.url)
    page.locator("input[type=file]").set_input_files(notes)
    with page.expect_response("**/v1/batches*") as answer:
        page.get_by_role("button", name="Submit").click()
    assert answer.value.status == 422
    expect(page.locator("output")).to_contain_text("None of the files is a PNG, JPEG or DICOM image")


def test_the_reference_needs_no_other_host(service: Service, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service.instance.url}/docs")
    page.locator("#operations-Batches-get_batches_status").click()
    expect(page.get_by_text("Refused, with a code").first).to_be_visible()
    assert {url for url in asked if not url.startswith((service.instance.url, "data:"))} == set()
    assert fits(page)
    _picture(page, "docs")


def test_a_browser_is_signed_in_with_a_key_and_out_again(service: Service, stranger: Page) -> None:
    batch_id = service.submit({"a.png": b"\x89PNG\r\n\x1a\n and then nothing"})
    stranger.goto(f"{service.instance.url}/batches/{batch_id}")
    expect(stranger.get_by_role("heading", name="Sign in")).to_be_visible()
    stranger.get_by_label("API key").fill("cxr_0123456789ab_none")
    stranger.get_by_role("button", name="Sign in").click()
    expect(stranger.get_by_role("alert")).to_contain_text("There is no such key")
    assert fits(stranger)
    _picture(stranger, "sign-in")
    stranger.get_by_label("API key").fill(str(service.key))
    stranger.get_by_role("button", name="Sign in").click()
    expect(stranger.locator("h1")).to_contain_text(batch_id)
    (cookie,) = stranger.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    stranger.get_by_role("button", name="Sign out").click()
    expect(stranger.get_by_role("heading", name="Sign in")).to_be_visible()
    stranger.context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": service.instance.url}])
    stranger.goto(service.instance.url)
    expect(stranger.get_by_role("heading", name="Sign in")).to_be_visible()  # the token is worth nothing any more


def test_a_link_signs_in_once(service: Service, stranger: Page) -> None:
    link = operator_key.link(service.settings, service.instance.url)
    assert link
    stranger.goto(link)
    expect(stranger.get_by_role("button", name="Sign out")).to_be_visible()
    stranger.context.clear_cookies()
    stranger.goto(link)
    expect(stranger.get_by_role("alert")).to_contain_text("used before")


def _picture(page: Page, name: str) -> None:
    """Keep a screenshot where CXR_PICTURES names a directory, to be looked at."""
    directory = os.environ.get("CXR_PICTURES")
    if directory and page.viewport_size:
        page.screenshot(path=Path(directory) / f"{name}-{page.viewport_size['width']}.png")
