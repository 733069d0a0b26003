"""The token of a request, from its ``Authorization`` (RFC 6750)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header

from unicas_edge.serve.settings import MOST_TOKEN

Authorization = Annotated[str, Header(max_length=len("Bearer ") + MOST_TOKEN)]


# a coroutine: FastAPI would run a plain function on another thread, for each request
async def _bearer(authorization: Authorization = "") -> str:
    return authorization.removeprefix("Bearer ").strip()


Token = Annotated[str, Depends(_bearer)]
