"""A model behind FastAPI, as its documentation teaches it: ``/threads`` a plain function, ``/loop`` a coroutine."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from speed.peers import work

app = FastAPI()
model = work.session()


class Body(BaseModel):
    image: str


@app.post("/threads")
def threads(body: Body) -> dict[str, Any]:
    return work.best(work.infer(model, work.decode(body.image)[None])[0])


@app.post("/loop")
async def loop(body: Body) -> dict[str, Any]:
    return work.best(work.infer(model, work.decode(body.image)[None])[0])
