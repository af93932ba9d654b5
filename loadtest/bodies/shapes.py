"""Request bodies that are hard to read: each is legal in size, and takes a careless reader seconds."""

import json
from base64 import b64encode

FORM_TYPE = "multipart/form-data; boundary=b0"
_HEAD = b'{"model":"m","x":'
_GROUP = b"[" * 60 + b"]" * 60
_PART = b'--b0\r\ncontent-disposition: form-data; name="x"\r\n\r\nm\r\n'
_MODEL = b'--b0\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
_FILE = b'--b0\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def documents(size: int) -> dict[str, bytes]:
    """Return bodies of about `size` bytes for endpoints that take JSON, by what is hard about them."""
    return {
        "brackets": _HEAD + b"[" * size,
        "groups of 60": _HEAD + b"[" + b",".join([_GROUP] * (size // 121)) + b"]}",
        "empty lists": _HEAD + b"[" + b",".join([b"[]"] * (size // 3)) + b"]}",
        "keys": b'{"model":"m"' + b"".join(b',"%x":1' % i for i in range(size // 11)) + b"}",
        "keys below": _HEAD + b"{" + b",".join(b'"%x":1' % i for i in range(size // 11)) + b"}}",
        "spaces": _HEAD + b" " * size + b"1}",
        "quotes": _HEAD + b'"' + b'\\"' * (size // 2) + b'"}',
        "backslashes": _HEAD + b'"' + b"\\\\" * (size // 2) + b'"}',
        "open string": _HEAD + b'"' + b"x" * size,
        "numbers": _HEAD + b"[" + b"1," * (size // 2) + b"1]}",
        "digits": _HEAD + b"9" * size + b"}",
        "a long number of choices": b'{"model":"m","n":' + b"9" * size + b"}",
        "a long model": b'{"model":"' + b"m" * size + b'"}',
        "a long key": b'{"model":"m","' + b"m" * size + b'":1}',
        "data": _HEAD + b"[" + b'"data",' * (size // 7) + b"1]}",
        "data without end": _HEAD + b"[{" + b'"data":"",' * (size // 10) + b'"a":1}]}',
        "data URLs": _HEAD + b'"' + b";base64," * (size // 8) + b'"}',
        "short images": _HEAD + b"[" + (b'"data:;base64,' + b"A" * 64 + b'",') * (size // 79) + b"1]}",
        "types": b'{"model":"m","messages":[' + b'{"type":"text"},' * (size // 16) + b"1]}",
        "small messages": b'{"model":"m","messages":[' + b'{"role":"user","content":"a\\nb"},' * (size // 32) + b"1]}",
        "small tools": b'{"model":"m","tools":[' + b'{"type":"function"},' * (size // 20) + b"1]}",
        "text": _HEAD + json.dumps("all is well, é said\n" * (size // 27)).encode() + b"}",
        "an image": _HEAD + b'{"url":"data:image/png;base64,' + b64encode(bytes(range(256)) * (size // 342)) + b'"}}',
    }


def forms(size: int) -> dict[str, bytes]:
    """Return bodies of about `size` bytes for endpoints that take a form."""
    end = b"\r\n--b0--\r\n"
    return {
        "parts": _PART * (size // len(_PART)) + b"--b0--\r\n",
        "carriage returns": _MODEL + _FILE + b"\r" * size + end,
        "near boundaries": _MODEL + _FILE + b"\r\n--b" * (size // 5) + end,
        "a long head": _PART[:-8] + b"x" * size,
        "a long model in a form": _MODEL[:-2] + b"m" * size + end,
        "audio": _MODEL + _FILE + bytes(range(256)) * (size // 256) + end,
    }


def requests(size: int) -> dict[str, bytes]:
    """Return whole requests of about `size` bytes, those among them whose framing is hard to read."""
    made = {name: _post("/v1/chat/completions", "application/json", body) for name, body in documents(size).items()}
    made |= {name: _post("/v1/audio/transcriptions", FORM_TYPE, body) for name, body in forms(size).items()}
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
    made["chunks of one byte"] = head + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (size // 6)
    made["pipelined requests"] = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n" * (size // 33)
    made["pipelined errors"] = (head.replace(b"connection: close\r\n", b"content-length: 2\r\n\r\n{}")) * (size // 75)
    return made


def _post(path: str, kind: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body
