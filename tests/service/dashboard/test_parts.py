"""Pages and parts over HTTP: what is open, what needs a key, what is escaped, what is refused."""

import json
import re
from typing import Any

import httpx2
import pytest

from service.dashboard.pages import PAGES
from service.dashboard.parts import PARTS, WATCHING
from service.dashboard.wording import NONE
from tests.service.conftest import Start
from tests.service.harness import BATCH

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
EVERY = [*PARTS, *WATCHING]
# Charts and forms name what they were made of in their own way.
NAMING = {"heatmap", "shares", "hardest", "verdict"}


def tracked(batch_id: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    track = {
        "project": "zoo",
        "model": "eyes",
        "model_version": "1",
        "batch_id": batch_id,
        "event_time": "2026-03-01T00:00:00Z",
        "label_schema": {"name": "animals", "classes": [HOSTILE, "bee", "cat", "dog"]},
        "tags": {"site": HOSTILE},
        "sample_ids": [f"{HOSTILE}{batch_id}", "b"],
    }
    return {**BATCH, "track": {**track, **changes}}


def filled(start: Start, **settings: object) -> httpx2.Client:
    client = start(**settings).client
    for at in range(40):
        version, day = str(at % 2 + 1), at // 2 + 1
        time = f"2026-03-{day:02}T00:00:00Z"
        request = tracked(f"{HOSTILE}-{at}", model_version=version, event_time=time)
        client.post("/loss/sparse", json=request).raise_for_status()
    return client


def test_shells_are_open_and_parts_need_a_key(start: Start) -> None:
    client = start(api_keys="reader:read,writer:evaluate").client
    writer = {"authorization": "Bearer writer"}
    client.post("/loss/sparse", json=tracked("a"), headers=writer).raise_for_status()
    for path in ("/", "/try", *(f"/dashboard/zoo/{page}".rstrip("/") for page in PAGES)):
        page = client.get(path)
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == "default-src 'self'"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "eyes" not in page.text
    for path in ("/parts", *(f"/parts/zoo/{name}" for name in EVERY)):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=writer).status_code == 403
        found = client.get(path, headers={"authorization": "Bearer reader"})
        assert (found.status_code, found.headers["cache-control"]) == (200, "no-store")


def test_names_are_escaped_wherever_they_stand(start: Start) -> None:
    client = filled(start)
    query = {"tag.site": HOSTILE, "other": HOSTILE}
    for name in EVERY:
        text = client.get(f"/parts/zoo/{name}", params=query).raise_for_status().text
        assert "<img" not in text, name
        assert "onerror=" not in re.sub(r'"[^"]*"|&lt;img[^&]*&gt;', "", text), name
        if name in NAMING:
            assert "&lt;img" in text, name
    page = client.get("/dashboard/zoo", params={"tag.site": HOSTILE}).text
    assert "<img" not in page
    page = client.get("/dashboard/%3Cimg%20src=x%3E%22").text
    assert "<img" not in page
    assert "&lt;img" in page


def test_what_is_not_there_is_said(start: Start) -> None:
    client = filled(start)
    assert "Nothing was recorded" not in client.get("/parts").text
    for path in ("/dashboard/zoo/nothing", "/parts/zoo/nothing", "/parts/nobody/summary"):
        assert client.get(path).status_code == 404
    refused = client.get("/parts/zoo/summary?from=yesterday")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/from"
    for name in EVERY:
        empty = client.get(f"/parts/zoo/{name}?model_version=9")
        assert empty.status_code == 200, (name, empty.text)
    assert "Nothing was evaluated" in client.get("/parts/zoo/losses?model_version=9").text
    summary = client.get("/parts/zoo/summary?model_version=9").text
    assert "no rows" in summary
    assert "every row" not in summary
    assert f"{NONE} to {NONE}" not in summary
    assert "Not comparable" in client.get("/parts/zoo/verdict?model_version=9").text


def test_widths_are_kept_within_reason(start: Start) -> None:
    client = filled(start)

    def drawn(width: str) -> str:
        text = client.get("/parts/zoo/losses", params={"width": width}).text
        found = re.search(r'viewBox="0 0 (\d+) ', text)
        assert found is not None
        return found[1]

    assert [drawn(each) for each in ("500", "1", "9999", "x", "-7", "99999")] == [
        *("500", "240", "1600", "720", "720", "720")
    ]


def test_one_unit_is_shown_and_its_addresses_work(start: Start) -> None:
    client = filled(start)
    for slug, settings in (("focal", {"gamma": 1.0}), ("focal", {"gamma": 3.0})):
        request = tracked(f"f{settings['gamma']}", event_time="2026-03-25T00:00:00Z")
        client.post(f"/loss/{slug}", json={**request, "settings": settings}).raise_for_status()
    summary = client.get("/parts/zoo/summary").text
    assert "Mean loss, focal" in summary  # the newest
    assert "Mean loss, sparse" in client.get("/parts/zoo/summary?variant=sparse").text
    form = client.get("/parts/zoo/filters?variant=focal").text
    assert 'name="settings"' in form
    assert re.findall(r"gamma \d", form) in (
        ["gamma 1", "gamma 3"],
        ["gamma 3", "gamma 1"],
    )
    assert "nonfinite" not in form  # the same under both
    for name in EVERY:
        text = client.get(f"/parts/zoo/{name}?variant=sparse&unknown=1&tag.site={'x' * 9}").text
        for url in re.findall(r'data-(?:copy-url|timeline|annotations)="([^"]+)"', text):
            path = "/" + url.replace("&amp;", "&")
            assert client.get(path).status_code == 200, path
            assert "variant=sparse" in path
            assert "unknown" not in path


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("binary", {"labels": [[1, 0, 0, 1], [0, 0, 1, 0]]}),  # decisions by element
        ("confidence-penalty", {"logits": [[9.0, 0, 0, 0], [0.0, 0, 0, 0]], "labels": [0, -100]}),
        ("sparse", {"labels": [-100, -100]}),  # nothing evaluated
        ("focal", {}),
    ],
)
def test_a_history_of_one_batch_of_any_kind_is_shown(
    start: Start, variant: str, changes: dict[str, Any]
) -> None:
    client = start().client
    request = {**tracked("only", tags={}), **changes}
    client.post(f"/loss/{variant}", json=request).raise_for_status()
    for name in EVERY:
        part = client.get(f"/parts/zoo/{name}")
        assert part.status_code == 200, (name, part.text)
    assert "label, predicted" in client.get("/parts/zoo/hardest").text or variant != "binary"


def test_two_models_are_two_lines(start: Start) -> None:
    client = filled(start)
    client.post("/loss/sparse", json=tracked("m", model="ears")).raise_for_status()
    assert "by=model%2Cmodel_version" in client.get("/parts/zoo/timeline").text
    form = client.get("/parts/zoo/choices?model=ears&model_version=1&model_version=2&step=1d").text
    assert 'name="model_version" multiple' in form
    assert "step=1d" in client.get("/parts/zoo/timeline?step=1d&by=class").text


def test_small_things_are_there_too(start: Start) -> None:
    client = filled(start)
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
    style = client.get("/static/style.css")
    assert style.headers["cache-control"] == "no-cache"
    tag = {"if-none-match": style.headers["etag"]}
    assert client.get("/static/style.css", headers=tag).status_code == 304
    # What is no time is left out of the form; the part that compares refuses it.
    assert 'value="x"' not in client.get("/parts/zoo/sides?baseline_from=x").text
    assert client.get("/parts/zoo/verdict?baseline_from=x").status_code == 422


@pytest.mark.parametrize("name", ["filters", "choices", "sides"])
def test_forms_keep_what_they_do_not_show(start: Start, name: str) -> None:
    client = filled(start)
    query: list[tuple[str, str | int | float | bool | None]] = [
        ("model", "eyes"),
        ("from", "2026-03-02T00:00:00+00:00"),
        ("kept", "1"),
        ("kept", "2"),
    ]
    form = client.get(f"/parts/zoo/{name}", params=query).text
    named = re.findall(r'name="([^"]+)"', form)
    assert named.count("kept") == 2
    assert named.count("model") == 1
    assert named.count("from") == 1
    assert "2026-03-02T00:00" in form


def test_the_reference_is_the_first_quarter_unless_given(start: Start) -> None:
    client = filled(start)
    assert (
        "the first quarter, 2026-03-01 00:00 to 2026-03-05" in client.get("/parts/zoo/heatmap").text
    )
    given = {"reference_from": "2026-03-02T00:00:00Z", "reference_to": "2026-03-04T00:00:00Z"}
    heatmap = client.get("/parts/zoo/heatmap", params=given).text
    assert "the reference, 2026-03-02 00:00 to 2026-03-04 00:00" in heatmap
    assert json.dumps(given["reference_to"])[1:-1].replace(":", "%3A") in heatmap
