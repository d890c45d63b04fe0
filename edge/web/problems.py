"""Answers to requests that cannot be served: problem details (RFC 9457) with a sentence a person can use."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from edge.control_client import NodeAwayError, OrderRefusedError
from edge.web.database import DatabaseAwayError
from edge.web.history import HistoryAwayError

MEDIA_TYPE = "application/problem+json"

_RETRY = {"Retry-After": "5"}

_UNROUTED: Mapping[int, str] = {
    HTTPStatus.NOT_FOUND: "there is nothing at {path}: GET /api/v1/openapi.json lists what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "{path} can only be read, with GET: `anlin` at the shell acknowledges and orders",
}


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(msgspec.json.encode(body), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turn the errors that a request can meet into problem details."""

    @app.exception_handler(HTTPException)
    async def _refused(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if detail == HTTPStatus(error.status_code).phrase:  # the router's own word
            detail = _UNROUTED.get(error.status_code, detail).format(path=request.url.path)
        return problem(error.status_code, detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def _malformed(_: Request, error: RequestValidationError) -> Response:
        faults = (
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        return problem(422, "; ".join(faults))

    @app.exception_handler(NodeAwayError)
    @app.exception_handler(DatabaseAwayError)
    @app.exception_handler(HistoryAwayError)
    async def _away(_: Request, error: Exception) -> Response:
        return problem(503, str(error), _RETRY)

    @app.exception_handler(OrderRefusedError)
    async def _denied(_: Request, error: OrderRefusedError) -> Response:
        return problem(404 if error.code == "not_found" else 502, str(error))
