"""One write of finished lines to the InfluxDB v2 API, through `influxdb-client`.

Its `WriteApi.write` hides the status of an answer and takes any 2xx for success, so this uses the client's
`WriteService`, one level below. The client's retries are off and redirects are not followed: what happens
next is decided in `outcomes` and done in `bridge`.

gzip is on for a remote store and off on loopback, unless set; level 1, because level 9 (the client's own)
costs several times the processor time for a few per cent less.
"""

import gzip
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, HTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

from cloud_bridge.outcomes import Answer, FixNeeded, Outcome, Wait, decide


@contextmanager
def _without_numpy() -> Iterator[None]:
    """influxdb-client imports numpy where it is installed, for data frames: 12 MB and half of our start."""
    if "numpy" in sys.modules:
        yield
        return
    sys.modules["numpy"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        del sys.modules["numpy"]


with _without_numpy():
    from influxdb_client.client.influxdb_client import InfluxDBClient
    from influxdb_client.rest import ApiException
    from influxdb_client.service.write_service import WriteService

TIMEOUT_S: Final = 10.0
"""To connect, and between two parts of an answer."""

_GZIP_LEVEL: Final = 1
_BODY_LIMIT: Final = 4096
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the cloud store is and as whom to write."""

    url: str
    org: str
    bucket: str
    token: str | None = field(default=None, repr=False)
    gzip: bool | None = None
    """None: on unless ``url`` is on loopback."""
    timeout_s: float = TIMEOUT_S

    @property
    def compressed(self) -> bool:
        """Whether bodies are sent with gzip."""
        return not _on_loopback(self.url) if self.gzip is None else self.gzip


class CloudStore:
    """The store behind the write API. Keeps one connection alive between writes; for one thread."""

    def __init__(self, settings: StoreSettings, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self._client: InfluxDBClient | None = None
        self._service: WriteService | None = None

    def write(self, body: bytes) -> Outcome:
        """Send lines joined by newlines, times in milliseconds. Failures too are outcomes."""
        try:
            return decide(self._post(body), self._now())
        except _TlsError as error:
            return Wait(f"TLS with the cloud store failed: {error}: check its certificate and this clock")
        except ValueError as error:  # ours, urllib3's and http.client's, before anything is sent
            return FixNeeded(f"cannot ask the cloud store: {error}: check cloud.url and cloud.token_file")
        except (HTTPError, OSError) as error:
            return Wait(f"no answer from the cloud store: {_one_line(error)}")

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()  # type: ignore[no-untyped-call]  # influxdb-client is half annotated
            self._client = self._service = None

    def _api(self) -> WriteService:
        if self._service is None:
            if urlsplit(self._settings.url).scheme not in ("http", "https"):
                raise ValueError("cloud.url must begin with http:// or https://")
            token = (self._settings.token or "").strip()
            if not (token.isascii() and token.isprintable()):  # http.client would say so with the token in it
                raise ValueError("the token holds characters that no header can carry")
            timeout_ms = round(self._settings.timeout_s * 1000)
            self._client = InfluxDBClient(
                self._settings.url,
                token,
                timeout=(timeout_ms, timeout_ms),
                retries=False,
            )
            rest = self._client.api_client.rest_client
            rest.pool_manager = _ShortAnswers(rest.pool_manager)  # type: ignore[assignment]  # it asks no more
            self._service = WriteService(self._client.api_client)  # type: ignore[no-untyped-call]  # likewise
        return self._service

    def _post(self, body: bytes) -> Answer:
        settings = self._settings
        extra = {"content_encoding": "gzip"} if settings.compressed else {}
        try:
            response: HTTPResponse = self._api().post_write_with_http_info(  # type: ignore[no-untyped-call]
                settings.org,
                settings.bucket,
                gzip.compress(body, _GZIP_LEVEL, mtime=0) if settings.compressed else body,
                precision="ms",
                _preload_content=False,  # the raw answer, whose status tells; a preloaded one must be UTF-8
                _return_http_data_only=True,
                urlopen_kw={"redirect": False},
                **extra,
            )
        except ApiException as error:
            if not error.status:
                raise _TlsError(_one_line(error.reason)) from error
            return Answer(error.status, _lower(error.headers), error.body or b"")
        return Answer(response.status, _lower(response.headers), response.data or b"")


class _ShortAnswers:
    """The client's connections, each answer of which is read to `_BODY_LIMIT` only.

    The client itself reads what comes with a failure to its end, and some answers have none.
    """

    def __init__(self, pool: PoolManager) -> None:
        self._pool = pool
        self.clear = pool.clear

    def request(self, method: str, url: str, **options: Any) -> HTTPResponse:  # noqa: ANN401 - handed on
        """See `urllib3.PoolManager.request`."""
        answer: BaseHTTPResponse = self._pool.request(method, url, **options)
        body = answer.read(_BODY_LIMIT)
        stored, failed = answer.status == HTTPStatus.NO_CONTENT, answer.status >= HTTPStatus.BAD_REQUEST
        if len(body) >= _BODY_LIMIT or not (stored or failed):
            answer.close()  # whatever this is, it is no store to keep a connection to
        return HTTPResponse(body, answer.headers, answer.status, reason=answer.reason)


class _TlsError(Exception):
    """The only failure that influxdb-client wraps, as an answer without a status."""


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _one_line(error: object) -> str:
    """Without the object's address that urllib3 puts in front."""
    return " ".join(re.sub(r"<[^>]*>: |HTTPS?Connection\([^)]*\): ", "", str(error)).split())


def _on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
