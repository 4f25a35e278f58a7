"""The endpoints of the server."""

# This module does not postpone annotations, because FastAPI evaluates those of functions inside other functions.

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

import recbole_llmtrsr
from recbole_llmtrsr.errors import UserError
from recbole_llmtrsr.explain import Explanation
from recbole_llmtrsr.recommend import Query, Ranking, Recommender
from recbole_llmtrsr.recommend.queries import GivenItem
from recbole_llmtrsr.serve.guard import LEFT, TRUSTED, Guard
from recbole_llmtrsr.serve.metrics import CONTENT_TYPE, Metrics
from recbole_llmtrsr.serve.schema import ExplainQuestion, Question, RankQuestion, RecommendQuestion
from recbole_llmtrsr.serve.worker import QueueFullError, Worker

_LATER = {"Retry-After": "1"}  # seconds
_MOST_FAULTS = 10
_TOO_LARGE = ("too_long", "string_too_long")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_waiting: maximum number of requests that wait for the model.
        max_prompts: maximum number of prompts of the requests in a batch.
        max_body: maximum size of a request's body in bytes.
        body_seconds: time limit for a client to send the body.
        answer_seconds: time limit for the answer to a request, including its time in the queue.
        shutdown_seconds: time limit for the current batch when the server shuts down.
    """

    max_waiting: int = 64
    max_prompts: int = 256
    max_body: int = 2**18
    body_seconds: float = 10.0
    answer_seconds: float = 60.0
    shutdown_seconds: float = 30.0


def make_app(recommender: Recommender, limits: Limits, token: str | None, only_loopback: bool) -> FastAPI:
    """Build the application that serves a recommender; its worker thread starts and ends with the application.

    Args:
        recommender: answers the requests.
        limits: limits of the server.
        token: token that clients must send; None requires none.
        only_loopback: refuse requests to other host names and forwarded requests, see `Guard`.
    """
    worker = Worker(recommender, limits.max_waiting, limits.max_prompts, lambda *batch: metrics.batch(*batch))
    metrics = Metrics(lambda: worker.n_waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.close, limits.shutdown_seconds)

    app = FastAPI(
        title="recbole_llmtrsr",
        summary=f"Rankings by {recommender.label}, trained on {recommender.dataset}.",
        version=recbole_llmtrsr.__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if token is not None else None,
    )
    app.state.worker = worker
    app.add_middleware(
        Guard,  # type: ignore[arg-type]
        metrics=metrics,
        token=token,
        max_body=limits.max_body,
        body_seconds=limits.body_seconds,
        only_loopback=only_loopback,
    )
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(400, _unreadable)

    too_late = (
        f"no result within {limits.answer_seconds:g} seconds: send fewer or shorter items, or try again when fewer"
        " requests wait; the server's --answer_seconds sets this limit"
    )

    async def answered(request: Request, make: Callable[[], Query], ask: Callable[[Query], "Future[_T]"]) -> _T:
        """Wait for the answer until the client disconnects or the time limit ends."""
        try:
            query = make()
        except UserError as fault:
            raise HTTPException(422, str(fault)) from fault
        try:
            future = ask(query)
        except QueueFullError:
            raise HTTPException(
                503, f"{limits.max_waiting} requests are already waiting: try again later", _LATER
            ) from None
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(request.receive())  # after the body, the only message is a disconnect
        try:
            waiting: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(waiting, timeout=limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                worker.leave(future)
                if not gone.done():
                    raise HTTPException(504, too_late)
                metrics.left()
                raise HTTPException(LEFT, "the client disconnected")
            if answer.cancelled():
                raise HTTPException(503, "the server is shutting down", _LATER)
            return answer.result()
        except (HTTPException, asyncio.CancelledError):
            raise
        except Exception as error:
            raise HTTPException(500, "the request failed on the server: see the server's log for the reason") from error
        finally:
            gone.cancel()
            answer.cancel()

    def history(question: Question) -> str | Sequence[GivenItem]:
        if question.user is None:
            return question.history or []
        return recommender.history(question.user, whole=True) if question.whole else question.user

    @app.post("/rank", summary="Rank candidates for a history.", responses=_REFUSALS)
    async def rank(question: RankQuestion, request: Request) -> Ranking:
        return await answered(
            request, lambda: recommender.query(history(question), question.candidates), worker.ranking
        )

    @app.post("/recommend", summary="Recommend the best items of the catalogue for a history.", responses=_REFUSALS)
    async def recommend(question: RecommendQuestion, request: Request) -> Ranking:
        options = {"with_history": question.with_history}
        return await answered(
            request, lambda: recommender.search_query(history(question), question.k, **options), worker.ranking
        )

    @app.post("/explain", summary="Explain a ranking by its summary, prompt and scores.", responses=_REFUSALS)
    async def explain(question: ExplainQuestion, request: Request) -> Explanation:
        def make() -> Query:
            if question.shown is not None and question.shown >= len(question.candidates):
                raise UserError(
                    f"shown: {question.shown} must be a position among the {len(question.candidates)} candidates, from"
                    f" 0 to {len(question.candidates) - 1}"
                )
            return recommender.query(history(question), question.candidates)

        explanation = await answered(request, make, lambda query: worker.explanation(query, question.shown))
        return replace(explanation, options=())  # options can name internal files and servers

    @app.get("/health", summary="Whether the server answers requests.", responses=_refusals(403, 408, 413) | _DOWN)
    async def health(request: Request) -> JSONResponse:
        state: dict[str, Any] = {"status": "ok" if worker.is_alive else "down"}
        if request.scope.get(TRUSTED, False):
            state |= {"model": recommender.label, "dataset": recommender.dataset, "items": recommender.n_items}
            state |= {"text_columns": recommender.text_columns, "waiting": worker.n_waiting}
        return JSONResponse(state, 200 if worker.is_alive else 503)

    @app.get(
        "/metrics",
        summary="Counters in the text format of Prometheus.",
        response_class=Response,
        responses=_refusals(401, 403, 408, 413),
    )
    async def counters() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return app


_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token is missing or wrong."},
    403: {
        "description": "A proxy forwarded the request without a token, or it names a foreign host or comes from another"
        " site's page."
    },
    408: {"description": "The body did not arrive in time."},
    413: {"description": "The body has too many bytes, items or characters."},
    415: {"description": "The body is not declared as application/json."},
    422: {
        "description": "The body is malformed, not JSON or names unknown users or items; the detail names the remedy."
    },
    500: {"description": "The request failed on the server; see the server's log for the reason."},
    503: {"description": "Too many requests are waiting; try again after Retry-After seconds."},
    504: {"description": "The request took too long; the detail names the remedy."},
}
_DOWN: dict[int | str, dict[str, Any]] = {503: {"description": "The model's thread has ended."}}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _REFUSALS[status] for status in statuses}


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    """Reply with the errors and their positions, but not with the values, which can be huge or binary."""
    assert isinstance(error, RequestValidationError)
    faults = list(error.errors())
    told = [f"{'.'.join(str(part)[:60] for part in one['loc'])}: {one['msg'][:300]}" for one in faults[:_MOST_FAULTS]]
    if len(faults) > len(told):
        told.append(f"and {len(faults) - len(told)} more faults")
    detail = "\n".join(told).encode(errors="replace").decode()
    status = 413 if any(one["type"] in _TOO_LARGE for one in faults) else 422
    return JSONResponse({"detail": detail}, status)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    """Reply 422 to a body that the JSON parser cannot read because of its nesting, digits or encoding."""
    detail = "the body cannot be parsed as JSON: send UTF-8, numbers of normal length and little nesting"
    return JSONResponse({"detail": detail}, 422)
