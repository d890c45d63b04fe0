"""The orders that were given, read from the database: `/api/v1/orders`. Reading only; orders are given by the shell."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, HTTPException, Path, Query, Response

from edge.orders import view_of
from edge.web.database import Database
from edge.web.models import OrderModel, Page, ProblemModel

_JSON = "application/json"
_ID = r"^[A-Za-z0-9_.-]{1,64}$"


class Orders:
    """The two endpoints."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def router(self) -> APIRouter:
        """The endpoints at their places."""
        router = APIRouter()
        away: dict[int | str, dict[str, Any]] = {503: {"model": ProblemModel}}
        router.add_api_route(
            "/api/v1/orders", self.orders, responses={200: {"model": Page[OrderModel]}, **away}
        )
        router.add_api_route(
            "/api/v1/orders/{order_id}",
            self.order,
            responses={200: {"model": OrderModel}, 404: {"model": ProblemModel}, **away},
        )
        return router

    async def orders(
        self,
        after: Annotated[str | None, Query(pattern=_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> Response:
        """What devices were ordered to do and what became of it, the newest first."""
        found = await self._database.read(lambda journal: journal.newest_orders(limit + 1, before=after))
        page = found[:limit]
        following = page[-1].order.id if len(found) > limit else None
        answer = {"items": [view_of(record) for record in page], "next": following}
        return Response(msgspec.json.encode(answer), media_type=_JSON)

    async def order(self, order_id: Annotated[str, Path(pattern=_ID)]) -> Response:
        """One order and what became of it."""
        found = await self._database.read(lambda journal: journal.order(order_id))
        if found is None:
            raise HTTPException(404, f"there is no order {order_id}: GET /api/v1/orders lists them")
        return Response(msgspec.json.encode(view_of(found)), media_type=_JSON)
