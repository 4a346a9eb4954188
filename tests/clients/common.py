"""What the clients' checks share: the server as a client sees it, and the things they ask for."""
import dataclasses
import ssl
import time
from typing import Literal

import httpx
import pydantic

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather at a place", "strict": True,
    "parameters": {"type": "object", "additionalProperties": False, "required": ["place", "unit"],
                   "properties": {"place": {"type": "string", "enum": ["Paris", "Rome"]},
                                  "unit": {"type": "string", "enum": ["C", "F"]}}}}}
PLACES, UNITS = ("Paris", "Rome"), ("C", "F")
QUESTION = [{"role": "user", "content": "Say hello to the world."}]
FOREVER = {"ignore_eos": True}  # beside max_tokens: an answer that surely goes on


class Animal(pydantic.BaseModel):
    """A JSON schema whose every answer is short."""
    kind: Literal["cat", "dog", "bird"]
    is_tame: bool
    legs: Literal[2, 4]


@dataclasses.dataclass
class Target:
    """Where the server is. `certificate` is None for plain HTTP."""
    url: str
    model: str
    key: str = "none"
    certificate: str | None = None

    @property
    def base(self):
        return self.url + "/v1"

    def verify(self):
        return ssl.create_default_context(cafile=self.certificate) if self.certificate else True

    def http(self):
        return httpx.Client(verify=self.verify())

    def async_http(self):
        return httpx.AsyncClient(verify=self.verify())


def raised(kind, call):
    """The exception of this kind that call() ends with, or None."""
    try:
        call()
    except kind as error:
        return error
    return None


def becomes(condition, seconds=20):
    """Whether condition() holds within this time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
