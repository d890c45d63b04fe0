"""The board's files, out of the package: no template, no build step, nothing from elsewhere."""

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response

_MEDIA_TYPES = {
    "board.css": "text/css; charset=utf-8",
    "board.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "words.js": "text/javascript; charset=utf-8",
}
_HTML = "text/html; charset=utf-8"


def routes(language: str) -> APIRouter:
    """``/`` and ``/static/…``; the page is told the configured ``language``."""
    router = APIRouter(include_in_schema=False)
    folder = files("edge.web") / "static"
    contents = {name: (folder / name).read_bytes() for name in _MEDIA_TYPES}
    page = (folder / "index.html").read_bytes().replace(b"{language}", language.encode())

    @router.get("/")
    async def board(request: Request) -> Response:
        return _answer(request, page, _HTML)

    @router.get("/static/{name}")
    async def static(request: Request, name: str) -> Response:
        if name not in contents:
            raise HTTPException(404, "there is no such file")
        return _answer(request, contents[name], _MEDIA_TYPES[name])

    return router


def _answer(request: Request, content: bytes, media_type: str) -> Response:
    etag = f'"{sha256(content).hexdigest()[:16]}"'
    headers = {"Cache-Control": "no-cache", "ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(None, 304, headers)
    return Response(content, 200, headers, media_type)
