"""API keys: 401, 403, and what stays open."""

import pytest
from pydantic import ValidationError

from service.settings import Settings
from tests.service.conftest import Start
from tests.service.harness import BATCH


def test_keys_open_what_their_scopes_say(start: Start) -> None:
    server = start(api_keys="alpha:evaluate,be:ta:evaluate+metrics, gamma:metrics,")
    client = server.client

    def evaluate(authorization: bytes | None) -> int:
        headers = [] if authorization is None else [(b"authorization", authorization)]
        response = client.post("/loss/sparse", json=BATCH, headers=headers)
        if response.status_code == 401:
            assert response.headers["www-authenticate"] == "Bearer"
        return response.status_code

    assert evaluate(b"Bearer alpha") == 200
    assert evaluate(b"bearer  be:ta") == 200
    assert evaluate(b"Bearer gamma") == 403
    for wrong in (
        None,
        b"Bearer",
        b"Bearer alph",
        b"Bearer alpha2",
        b"Basic alpha",
        b"Bearer \xc3\xa9",
    ):
        assert evaluate(wrong) == 401
    for key, status in (("gamma", 200), ("alpha", 403), ("x", 401)):
        headers = {"authorization": f"Bearer {key}"}
        assert client.get("/metrics", headers=headers).status_code == status
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json", "/variants"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("text", ["key", "key:", ":evaluate", "key:admin", "key:evaluate+admin"])
def test_keys_that_are_none_are_refused_without_repeating_them(text: str) -> None:
    with pytest.raises(ValidationError, match="write key:scope"):
        Settings.model_validate({"api_keys": text})


def test_keys_are_not_shown() -> None:
    settings = Settings.model_validate({"api_keys": "hunter2:evaluate"})
    assert "hunter2" not in repr(settings)
    assert Settings.model_validate({"api_keys": settings.api_keys}) == settings
