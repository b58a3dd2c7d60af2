"""Evaluations that are answered before the router, and everything else."""

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from service.questions import LossQuestion, Question
from service.schema.models import loss_model, settings_models
from service.shortcut import Shortcut
from tests.service.conftest import Start
from xentcore import VARIANTS

BATCH = {"logits": [[2.0, 1.0, 0.0], [0.5, 2.5, 0.0]], "labels": [0, 2]}
SPARSE = VARIANTS["sparse"]
QUESTION = LossQuestion(SPARSE, loss_model(SPARSE, settings_models(VARIANTS)["sparse"]))


async def rest(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("the rest")(scope, receive, send)


async def answer(request: Request, question: Question) -> Response:
    words = (await request.body()).decode()
    if words:
        raise {"expected": KeyError, "a bug": ZeroDivisionError}[words]
    return PlainTextResponse(f"{question.path} {request.scope['route'].path}")


async def problem(_: Request, error: Exception) -> Response:
    return PlainTextResponse(type(error).__name__, status_code=422)


def shortcut() -> httpx2.AsyncClient:
    app = Shortcut(
        rest,
        questions={QUESTION.path: QUESTION},
        answer=answer,
        expected=(KeyError,),
        problem=problem,
    )
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")


@pytest.mark.anyio
async def test_what_is_posted_where_a_question_is_asked_is_answered() -> None:
    async with shortcut() as client:
        found = await client.post("/loss/sparse?nothing=1")
        assert found.text == "/loss/sparse /loss/sparse"
        for method, path in (("GET", "/loss/sparse"), ("POST", "/loss/sparse/"), ("POST", "/")):
            assert (await client.request(method, path)).text == "the rest"


@pytest.mark.anyio
async def test_expected_errors_are_answers_and_others_are_not() -> None:
    async with shortcut() as client:
        found = await client.post("/loss/sparse", content="expected")
        assert (found.status_code, found.text) == (422, "KeyError")
        with pytest.raises(ZeroDivisionError):
            await client.post("/loss/sparse", content="a bug")


def test_the_service_answers_everything_else_too(start: Start) -> None:
    client = start().client
    assert client.post("/loss/sparse", json=BATCH).status_code == 200
    assert client.post("/loss/sparse", json={**BATCH, "labels": [0, 9]}).status_code == 422
    assert client.get("/loss/sparse").status_code == 405
    assert client.post("/loss/nothing", json=BATCH).status_code == 404
