"""Reading a JSON body in bounded time: it is read where every other request waits."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi.routing import APIRoute

MAX_VALUES = 20_000  # in one body: texts, numbers, lists, objects. A wrong one costs more than a right one to tell of


def parse_body(body: bytes) -> Any:
    """Raises HTTPException (400) for more than `MAX_VALUES` values, and json.JSONDecodeError."""
    from fastapi import HTTPException

    try:
        value = json.loads(body)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise HTTPException(400, "the body is nested too deeply") from None
    except ValueError as error:  # it is not UTF-8, or holds a number with thousands of digits
        raise HTTPException(400, f"the body cannot be read: {str(error)[:200]}") from None
    if _has_more_values(value, MAX_VALUES):
        raise HTTPException(400, f"the body holds more than {MAX_VALUES:,} values")
    return value


def _has_more_values(value: Any, bound: int) -> bool:
    waiting, seen = [value], 1
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            seen += len(one)
            if seen > bound:
                return True
            items = one.values() if isinstance(one, dict) else one
            waiting.extend(item for item in items if isinstance(item, dict | list))
    return False


def bounded_route() -> "type[APIRoute]":
    """A route whose body is read by `parse_body`. FastAPI is imported when it is needed."""
    from fastapi import Request
    from fastapi.routing import APIRoute

    class BoundedRequest(Request):
        async def json(self) -> Any:
            if not hasattr(self, "_json"):
                self._json = parse_body(await self.body())
            return self._json

    class BoundedRoute(APIRoute):
        def get_route_handler(self) -> Callable:
            handle = super().get_route_handler()

            async def bounded(request: Request) -> Any:
                return await handle(BoundedRequest(request.scope, request.receive))

            return bounded

    return BoundedRoute
