"""Evaluations by their path alone, before the router compares it with one route after the other.

A framework's router is made for handlers of any kind. Those of evaluations take a request and
return a response: a small batch is evaluated in the time in which the router would find them.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.questions import Question

Answer = Callable[[Request, Question], Awaitable[Response]]
Problem = Callable[[Request, Exception], Awaitable[Response]]


class Shortcut:
    """ASGI middleware: answers what is posted where a question is asked, and passes on the rest.

    Args:
        app: the rest.
        questions: by their paths; each has a route in ``app`` too, which describes it.
        answer: from a request and its question to the answer.
        expected: errors that are answers too.
        problem: from such an error to its answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        questions: Mapping[str, Question],
        answer: Answer,
        expected: tuple[type[Exception], ...],
        problem: Problem,
    ) -> None:
        self._app = app
        self._questions = questions
        self._answer = answer
        self._expected = expected
        self._problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        question = None
        if scope["type"] == "http" and scope["method"] == "POST":
            question = self._questions.get(scope["path"])
        if question is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = question  # its path is what counts and logs name
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request, question)
        except self._expected as error:
            response = await self._problem(request, error)
        await response(scope, receive, send)
