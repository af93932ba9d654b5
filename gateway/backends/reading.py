"""Reading what an engine answers to the gateway's own questions: whole, uncompressed, and never beyond a bound."""

from collections.abc import Mapping

import httpx

_SHORT = 64 * 1024
"""Bytes up to which an answer that is not wanted is read all the same, so that its connection can be kept."""
_NONE = httpx.ByteStream(b"")


async def read(
    client: httpx.AsyncClient,
    url: str,
    fields: Mapping[str, str],
    *,
    most: int,
    question: Mapping[str, object] | None = None,
) -> tuple[int, bytes | None]:
    """Return the status and the body of an answer; no body where it is not 200, compressed, or longer than `most`.

    `question` is posted as JSON. Raises httpx.HTTPError or httpx.InvalidURL. How long all of it takes is the caller's
    to bound: httpx bounds each read alone.
    """
    method, wanted = ("GET" if question is None else "POST"), {**fields, "accept-encoding": "identity"}
    answer = await client.send(client.build_request(method, url, headers=wanted, json=question), stream=True)
    try:
        return answer.status_code, await _body(answer, most)
    finally:
        await answer.aclose()
        answer.stream = _NONE  # httpx lets the two hold each other, so that they would wait for the garbage collector


async def _body(answer: httpx.Response, most: int) -> bytes | None:
    usable = answer.status_code == httpx.codes.OK and _is_plain(answer)
    if not (usable and most) and not _is_short(answer):
        return None
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) > max(most, _SHORT):
            return None
    return bytes(body) if usable and len(body) <= most else None


def _is_plain(answer: httpx.Response) -> bool:
    return bool(answer.headers.get("content-encoding", "identity").lower() == "identity")


def _is_short(answer: httpx.Response) -> bool:
    length = answer.headers.get("content-length", "")
    return length.isascii() and length.isdigit() and int(length[:10]) <= _SHORT
