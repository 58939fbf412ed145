"""JSON in and out, also where it is not what every parser takes."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from appfn.errors import QueueFullError
from appfn.shim import http
from appfn.shim.bodies import SMALL, BodyRoom


@pytest.mark.parametrize(
    ("content", "body"),
    [
        pytest.param({"a": "é"}, b'{"a":"\xc3\xa9"}', id="text"),
        pytest.param({"a": "x\ud800y"}, b'{"a":"x?y"}', id="lone-surrogate"),
        pytest.param({"a": 2**70}, b'{"a":1180591620717411303424}', id="beyond-64-bits"),
        pytest.param({"a": 0.125}, b'{"a":0.125}', id="fraction"),
    ],
)
def test_what_is_answered_is_compact_utf_8(content: object, body: bytes) -> None:
    assert http.reply(content).body == body


@pytest.mark.parametrize(
    ("body", "content"),
    [
        pytest.param(b'{"a": "\\ud800"}', {"a": "\ud800"}, id="lone-surrogate"),
        pytest.param('{"a": 1}'.encode("utf-16"), {"a": 1}, id="utf-16"),
        pytest.param(b'{"a": Infinity}', {"a": float("inf")}, id="infinity"),
        pytest.param(b"", {}, id="nothing"),
        pytest.param(b"[]", {}, id="php"),
    ],
)
async def test_what_python_takes_for_json_is_taken(body: bytes, content: Any) -> None:
    request = make_mocked_request("POST", "/")
    request._read_bytes = body

    assert await http.read_json(request) == content


def test_large_bodies_share_the_room_and_small_ones_need_none() -> None:
    room = BodyRoom(3 * SMALL)

    taken = room.take(2 * SMALL)

    assert room.take(SMALL) == 0
    with pytest.raises(QueueFullError):
        room.take(2 * SMALL)
    room.give_back(taken)
    assert room.take(3 * SMALL) == 3 * SMALL
