"""What every request must pass and every answer must carry.

The server stands on loopback without passwords, so the danger is a foreign page in the viewer's own browser.
A Host header that is not ours is refused (DNS rebinding), so is what a foreign page asks for behind the viewer's back
(it could not read the answer, but it could keep us busy); no answer may be framed, sniffed or read across origins, and
the board may load nothing but its own files.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.web.problems import problem

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_OURS = frozenset({"same-origin", "none"})
"""What browsers say in Sec-Fetch-Site of our own page and of a person; programs say nothing."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._hosts = _LOOPBACK | {host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a foreign host or page; add the headers to whatever is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        app, told = self._app, Headers(scope=scope)
        if _name(told.get("host", "")) not in self._hosts:
            app = problem(421, "this name is not served here: open http://localhost or an SSH tunnel to it")
        elif told.get("sec-fetch-site", "none") not in _OURS and told.get("sec-fetch-dest") != "document":
            app = problem(
                403, "a page of another site has asked for this: open it by itself, or from a program"
            )
        await app(scope, receive, send_guarded)


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or not port.isdecimal():
        name = host.lower()
    return name.removeprefix("[").removesuffix("]")
