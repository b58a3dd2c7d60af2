"""Every page in a real browser, against a real server: the right numbers, and no flaw."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, FilePayload, expect
from safetensors.torch import save_file

from demo import days
from service.dashboard.wording import NONE
from tests.service.dashboard.browsing import BEGIN, NARROW, WIDE, Visit, chromium, held_out, rows_of
from tests.service.harness import Running

# One worker for all of them: one server, one browser.
pytestmark = pytest.mark.xdist_group("browser")

OF = "/dashboard/digits"
SMALL = {"logits": [[2.0, 1.0, 0.0], [0.5, 2.5, 0.0]], "labels": [0, 2]}
TRACK = {
    "project": "other",
    "model": "eyes",
    "model_version": "1",
    "batch_id": "a",
    "event_time": "2026-03-01T00:00:00Z",
    "label_schema": {"name": "animals", "classes": ["ant", "bee", "cat"]},
}
PAGES = (
    "/",
    "/try",
    OF,
    *(f"{OF}/{page}" for page in ("classes", "calibration", "hardest", "compare")),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(data_dir=tmp_path_factory.mktemp("data"))
    days.post(running.client, held_out(), BEGIN)
    days.watch(running.client, BEGIN)
    running.client.post("/loss/sparse", json={**SMALL, "track": TRACK}).raise_for_status()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport=WIDE, permissions=["clipboard-read", "clipboard-write"])
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture
def visit(context: BrowserContext, server: Running) -> Iterator[Visit]:
    opened = Visit(context.new_page(), f"http://127.0.0.1:{server.port}")
    yield opened
    assert opened.abroad == []


@pytest.fixture
def api(server: Running) -> httpx2.Client:
    return server.client


@pytest.mark.parametrize(
    "path", [OF, *(pytest.param(each, marks=pytest.mark.slow) for each in PAGES if each != OF)]
)
def test_pages_have_no_flaw_wide_narrow_and_in_the_dark(visit: Visit, path: str) -> None:
    visit.open(path)
    assert visit.flaws() == []
    light = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    visit.page.set_viewport_size(NARROW)
    visit.page.emulate_media(color_scheme="dark")
    visit.open(path)
    assert visit.flaws() == []
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") != light


@pytest.mark.slow
def test_several_projects_are_to_choose_from(visit: Visit) -> None:
    visit.open("/")
    assert visit.page.locator(".card strong").all_inner_texts() == ["digits", "other"]
    visit.follow(visit.page.get_by_role("link", name="other"))
    assert urlsplit(visit.page.url).path == "/dashboard/other"
    assert visit.text(".project") == "other"


def test_the_overview_has_the_numbers_of_the_api(visit: Visit, api: httpx2.Client) -> None:
    visit.open(OF)
    series = api.get("/projects/digits/series").json()["series"]
    rows = sum(each["rows"] for each in series)
    labelled = sum(each["labelled"] for each in series)
    tiles = visit.page.locator(".tile").all_inner_texts()
    assert f"{rows:,}" in tiles[2]
    assert f"{100 * labelled / rows:.1f} %" in tiles[3]
    firing = sum(
        each["state"] == "firing" for each in api.get("/projects/digits/alerts").json()["alerts"]
    )
    assert firing == 1
    assert "\n1\nof 2" in tiles[5]
    histogram = api.get("/projects/digits/histogram").json()
    (now, _) = rows_of(visit, ".scroll[aria-label='Losses of rows']")
    assert now[1] == f"{histogram['mean']['value']:.4f}"
    assert f"{histogram['rows']:,} rows" in visit.text(".key")
    assert "new scanner" in visit.text(".marks")
    assert "first data of scanner 2.0" in visit.text(".marks")


def test_the_chart_over_time_is_what_the_api_answers(visit: Visit, api: httpx2.Client) -> None:
    visit.open(OF)
    address = visit.page.locator("[data-timeline]").get_attribute("data-timeline")
    answer = api.get(f"/{address}").json()
    assert answer["by"] == ["model_version"]
    visit.page.get_by_text("As a table").first.click()
    shown = rows_of(visit, "[data-table]")
    assert len(shown) == len(answer["rows"])
    assert {row["status"] for row in answer["rows"]} > {"empty"}
    assert shown[0][:2] == [answer["rows"][0]["time"], "1.4"]
    assert float(shown[0][2]) == pytest.approx(answer["rows"][0]["value"], rel=1e-3)
    # A gap is a gap: nothing is drawn there, and the table says so.
    gap = next(row for row in shown if row[-1] == "empty")
    assert gap[2] == NONE
    assert visit.page.evaluate("document.querySelectorAll('.u-over').length") == 1
    names = visit.page.locator("[data-legend] .name").all_inner_texts()
    assert names == ["1.4", "2.0"]


@pytest.mark.slow
def test_the_chart_is_read_and_steered_by_keys(visit: Visit) -> None:
    visit.open(OF)
    visit.page.locator(".plot").focus()
    visit.page.keyboard.press("Home")
    first = visit.text("[data-readout]")
    assert first.startswith("2026-03-02 00:00")
    assert "1.4: " in first
    visit.page.keyboard.press("ArrowRight")
    assert visit.text("[data-readout]") != first
    button = visit.page.locator("[data-legend] button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"


@pytest.mark.slow
def test_the_first_key_leads_past_the_navigation(visit: Visit) -> None:
    visit.open(OF)
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.className") == "skip"
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.id") == "main"
    visit.page.keyboard.press("Tab")
    ring = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"


@pytest.mark.slow
def test_the_state_is_in_the_address_and_links_keep_it(visit: Visit, api: httpx2.Client) -> None:
    visit.open(OF)
    visit.page.locator("[name=model_version]").select_option("2.0")
    visit.page.get_by_text("Times, reference and more").click()
    visit.page.locator("[name=from]").fill("2026-03-14T00:00")
    visit.page.locator("[name='tag.site']").select_option("north")
    visit.follow(visit.page.get_by_role("button", name="Show"))
    query = parse_qs(urlsplit(visit.page.url).query)
    assert query["model_version"] == ["2.0"]
    assert query["from"] == ["2026-03-14T00:00Z"]
    assert query["tag.site"] == ["north"]
    assert "to" not in query
    selection = {name: query[name] for name in ("model_version", "from", "tag.site")}
    series = api.get("/projects/digits/series", params=selection).json()["series"]
    assert f"{sum(each['rows'] for each in series):,}" in visit.text(".tile:nth-child(3)")
    visit.follow(visit.page.get_by_role("link", name="Classes"))
    assert parse_qs(urlsplit(visit.page.url).query) == query
    visit.follow(visit.page.get_by_role("link", name="7 days"))
    assert visit.page.locator(".quick [aria-current]").inner_text() == "7 days"


@pytest.mark.slow
def test_copied_addresses_answer(visit: Visit) -> None:
    for path in (OF, f"{OF}/classes", f"{OF}/calibration", f"{OF}/hardest", f"{OF}/compare"):
        visit.open(path)
        buttons = visit.page.get_by_role("button", name="Copy API URL")
        assert buttons.count() >= 1
        buttons.last.click()
        expect(visit.page.locator("[data-status]")).not_to_be_empty()
        copied = visit.page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(f"{visit.origin}/projects/digits/")
        assert httpx2.get(copied, trust_env=False).status_code == 200


def test_classes_are_in_the_order_of_their_loss(visit: Visit, api: httpx2.Client) -> None:
    visit.open(f"{OF}/classes?model_version=2.0")
    answer = api.get("/projects/digits/classes", params={"model_version": "2.0"}).json()
    shown = rows_of(visit, ".scroll[aria-label^='Classes by']")
    assert [row[0] for row in shown] == [row["class"] for row in answer["rows"]]
    assert {row[0] for row in shown[:3]} == {days.NAMES[digit] for digit in days.DRIFTING}
    assert shown[0][2].strip() == f"{100 * answer['rows'][0]['loss_share']:.1f} %"
    # The last days of what drifts are darkest, those of the others are not.
    cells = visit.page.locator(f"svg.chart rect:has(title:text-matches('^{shown[0][0]},'))")
    assert cells.last.get_attribute("class") == "d5"
    assert visit.page.locator("svg.chart .d-none").count() == 0


def test_calibration_has_the_bins_of_the_api(visit: Visit, api: httpx2.Client) -> None:
    visit.open(f"{OF}/calibration")
    answer = api.get("/projects/digits/calibration").json()
    held = [each for each in answer["bins"]["count"] if each]
    assert visit.page.locator("circle.point").count() == len(held) + 1  # and the key's
    shown = rows_of(visit, ".scroll[aria-label='Bins of confidence']")
    assert [row[1] for row in shown] == [f"{each:,}" for each in held]
    assert visit.text(".tile dd").startswith(f"{answer['ece']['value']:.3g}"[:5])


def test_the_hardest_rows_are_named(visit: Visit, api: httpx2.Client) -> None:
    visit.open(f"{OF}/hardest")
    answer = api.get("/projects/digits/hardest").json()["rows"]
    shown = rows_of(visit, ".scroll[aria-label='Hardest rows']")
    assert [row[0] for row in shown] == [row["id"] for row in answer]
    assert [row[2] for row in shown] == [row["label_name"] for row in answer]
    assert shown[0][1] == f"{answer[0]['loss']:.4g}".ljust(5, "0")[: len(shown[0][1])]


def test_versions_are_compared_in_a_sentence(visit: Visit, api: httpx2.Client) -> None:
    visit.open(f"{OF}/compare")
    query = {"baseline": "model_version:1.4", "candidate": "model_version:2.0"}
    answer = api.get("/projects/digits/compare", params=query).json()
    assert visit.text(".verdict") == answer["sentence"]
    assert f"verdict {answer['verdict']}" in (
        visit.page.locator(".verdict").get_attribute("class") or ""
    )
    assert len(rows_of(visit, ".scroll[aria-label='Change by class']")) == 10
    visit.page.locator("[name=baseline]").select_option("model_version:2.0")
    visit.page.locator("[name=baseline_to]").fill("2026-03-17T00:00")
    visit.page.locator("[name=candidate_from]").fill("2026-03-17T00:00")
    visit.follow(visit.page.get_by_role("button", name="Compare"))
    assert "is worse than" in visit.text(".verdict")
    assert visit.page.locator("svg.chart polygon.worse").count() >= 3


@pytest.mark.slow
def test_a_wrong_address_is_explained(visit: Visit) -> None:
    visit.open(f"{OF}?from=yesterday")
    assert "/from" in visit.text(".problem code")
    assert visit.page.get_by_role("link", name="Reset").count()
    visit.open("/dashboard/nobody")
    assert "nothing was recorded under this project" in visit.text(".problem")


@pytest.mark.slow
def test_tried_batches_have_the_numbers_of_the_api(visit: Visit, api: httpx2.Client) -> None:
    visit.open("/try?variant=sparse&variant=focal:" + '{"gamma":3}')
    visit.page.locator("textarea").fill("a,b,c,label\n2.0,1.0,0.0,a\n0.5,2.5,0.0,c\n")
    visit.page.get_by_role("button", name="Evaluate").click()
    visit.settled()
    variants = [{"variant": "focal", "settings": {"gamma": 3}}, {"variant": "sparse"}]
    outputs = ["per_class", "per_sample", "gradient"]
    answer = api.post("/compare", json={**SMALL, "variants": variants, "outputs": outputs}).json()
    losses = rows_of(visit, ".scroll[aria-label='Losses by variant']")
    assert [row[0] for row in losses] == ["focal", "sparse"]
    for row, result in zip(losses, answer["results"], strict=True):
        assert float(row[1]) == pytest.approx(result["loss"], rel=1e-5)
    sparse = rows_of(visit, ".scroll[aria-label='Rows under sparse']")
    assert [float(cell) for cell in sparse[1][2:]] == pytest.approx(
        answer["results"][1]["gradient"][1], rel=1e-2, abs=1e-3
    )
    assert [row[0] for row in rows_of(visit, ".scroll[aria-label='Loss by class']")] == [
        "a",
        "b",
        "c",
    ]
    command = visit.text("[data-command]")
    assert f"{visit.origin}/compare" in command
    # The whole state is in the address: another tab shows the same.
    address = visit.page.url
    visit.page.goto("about:blank")
    visit.page.goto(address)
    visit.settled()
    visit.page.locator(".results table").first.wait_for()
    assert rows_of(visit, ".scroll[aria-label='Losses by variant']") == losses
    assert visit.flaws() == []


@pytest.mark.slow
def test_what_the_api_refuses_is_shown_with_its_place(visit: Visit) -> None:
    visit.open("/try?variant=sparse")
    visit.page.locator("textarea").fill('{"logits": [[1, 2]], "labels": [7]}')
    visit.page.get_by_role("button", name="Evaluate").click()
    visit.settled()
    assert visit.text(".problem code") == "/labels/0"
    for text, said in (
        ("1 2 0\n1 2", "row 2 has 2 columns, not 3"),
        ("1 2 x", "the label 'x'"),
        ("{", "not JSON"),
        ("", "paste a batch"),
    ):
        visit.page.locator("textarea").fill(text)
        visit.page.get_by_role("button", name="Evaluate").click()
        visit.page.locator(".problem", has_text=said).wait_for()
    visit.page.locator("textarea").fill("1 2 0")
    visit.page.locator("[data-settings] input").fill("{")
    visit.page.get_by_role("button", name="Evaluate").click()
    visit.page.locator(".problem", has_text="the settings of sparse are not JSON").wait_for()


@pytest.mark.slow
def test_files_are_sent_as_they_are(visit: Visit, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {"logits": torch.randn(50, 7), "labels": torch.randint(7, (50,))}
    save_file(tensors, tmp_path / "batch.safetensors")
    (tmp_path / "batch.json").write_text(
        json.dumps({name: each.tolist() for name, each in tensors.items()})
    )
    arrays = {"logits": tensors["logits"].numpy(), "labels": tensors["labels"].numpy()}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    expected = torch.nn.functional.cross_entropy(tensors["logits"], tensors["labels"]).item()
    for names in (["batch.safetensors"], ["batch.json"], ["labels.npy", "logits.npy"]):
        visit.open("/try?variant=sparse")
        visit.page.get_by_role("tab", name="Upload").click()
        visit.page.locator("input[type=file]").set_input_files([tmp_path / name for name in names])
        visit.page.get_by_role("button", name="Evaluate").click()
        visit.page.locator(".results table").first.wait_for()
        ((_, loss, *_),) = rows_of(visit, ".scroll[aria-label='Losses by variant']")
        assert float(loss) == pytest.approx(expected, rel=1e-5)
    visit.page.locator("input[type=file]").set_input_files(
        FilePayload(name="x.safetensors", mimeType="", buffer=b"\x00" * 20)
    )
    visit.page.get_by_role("button", name="Evaluate").click()
    visit.page.locator(".problem", has_text="is no safetensors file").wait_for()
    assert visit.refused == []


@pytest.mark.slow
def test_a_key_is_asked_for_and_an_empty_service_says_how_to_begin(
    context: BrowserContext, tmp_path: Path
) -> None:
    running = Running(data_dir=tmp_path, api_keys="open sesame:read+evaluate,other:metrics")
    try:
        visit = Visit(context.new_page(), f"http://127.0.0.1:{running.port}")
        visit.open("/")
        assert "A key is needed" in visit.text("[data-part]")
        for key, said in (("wrong", "not known here"), ("other", "does not have the scope")):
            visit.page.get_by_role("textbox", name="Key").fill(key)
            visit.page.get_by_role("button", name="Use it").click()
            visit.page.locator("[data-keynote]", has_text=said).wait_for()
        visit.page.get_by_role("textbox", name="Key").fill("open sesame")
        visit.page.get_by_role("button", name="Use it").click()
        visit.page.get_by_role("heading", name="Nothing was recorded yet").wait_for()
        command = visit.text("#first")
        assert command.startswith(f"curl -s {visit.origin}/loss/sparse ")
        body = json.loads(command.split("-d '")[1].removesuffix("'"))
        sent = {"authorization": "Bearer open sesame"}
        running.client.post("/loss/sparse", json=body, headers=sent).raise_for_status()
        # The only project opens by itself.
        visit.page.get_by_role("link", name="Reload").click()
        visit.page.wait_for_url("**/dashboard/animals")
        visit.settled()
        assert visit.text(".tile:nth-child(3)").startswith("Rows\n3")
        assert "Bearer" not in visit.page.content()
        visit.page.get_by_role("button", name="Forget key").click()
        visit.page.get_by_role("textbox", name="Key").wait_for()
    finally:
        running.stop()
