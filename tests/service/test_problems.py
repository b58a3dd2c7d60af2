"""The table of problems covers everything that can be raised."""

from collections.abc import Iterator

import orjson
import pytest
from starlette.exceptions import HTTPException

import xentcore as core
from service.errors import Fault, InvalidDocument, ServiceError
from service.problems import INTERNAL, KINDS, kind_of, problem_response

STATUSES = {400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 499, 503}


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


@pytest.mark.parametrize("error", [*tree(ServiceError), *tree(core.XentError)])
def test_every_error_has_a_kind(error: type[Exception]) -> None:
    known = any(base in KINDS for base in error.__mro__)
    assert known or error is core.CannotMerge  # requests never merge


def test_types_are_stable_names_of_one_status_each() -> None:
    assert {kind.status for kind in KINDS.values()} == STATUSES
    by_type = {kind.type: kind.status for kind in KINDS.values()}
    assert all(by_type[kind.type] == kind.status for kind in KINDS.values())


def test_what_is_not_ours_says_nothing() -> None:
    assert kind_of(ZeroDivisionError("secret")) is INTERNAL
    body = orjson.loads(problem_response(ZeroDivisionError("secret"), "r").body)
    assert body["detail"] == INTERNAL.title
    memory = orjson.loads(problem_response(MemoryError("secret"), "r").body)
    assert (memory["status"], memory["detail"]) == (503, "The service is out of memory")


def test_statuses_of_the_framework_keep_their_headers() -> None:
    response = problem_response(HTTPException(405, headers={"allow": "GET"}), "r")
    assert response.headers["allow"] == "GET"
    body = orjson.loads(response.body)
    assert body["type"] == "/problems/method-not-allowed"
    assert body["detail"] == "Method Not Allowed: this path takes GET"


def test_every_fault_is_listed() -> None:
    faults = [Fault("/a", "is wrong"), Fault("/b", "too")]
    body = orjson.loads(problem_response(InvalidDocument(faults), "r").body)
    assert body["detail"] == "/a: is wrong (and 1 more)"
    assert [each["pointer"] for each in body["errors"]] == ["/a", "/b"]
