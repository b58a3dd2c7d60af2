"""/docs works without any other machine."""

import re

import httpx2


def test_the_root_leads_to_the_documentation(client: httpx2.Client) -> None:
    assert 'href="docs"' in client.get("/").text


def test_everything_the_page_needs_is_served_from_here(client: httpx2.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "<script>" not in page.text
    needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(needed) == 4
    for path in needed:
        assert not path.startswith(("http", "//", "/"))
        assert client.get(f"/{path}").status_code == 200, path
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "openapi.json" in client.get("/docs/init.js").text
    assert client.get("/openapi.json").json()["info"]["title"] == "Xent"


def test_nothing_else_is_served(client: httpx2.Client) -> None:
    for path in ("/docs/static/../index.html", "/docs/static/%2e%2e/index.html", "/redoc"):
        assert client.get(path).status_code == 404
