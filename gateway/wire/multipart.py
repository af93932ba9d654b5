"""Finding `model` among the fields of a form (RFC 7578), for the audio endpoints, so that it can be spliced.

Stricter than the engines' parsers where those differ, so that none of them finds another `model`.
"""

from typing import Final

from python_multipart.multipart import parse_options_header

from gateway.errors import InvalidRequest, UnsupportedMediaType
from gateway.wire.body import Body
from gateway.wire.numbers import flag
from gateway.wire.rope import Rope, Span
from gateway.wire.scan import WINDOW, Steps
from gateway.wire.slices import Work, finish

MAX_PARTS: Final = 1000
"""As Starlette has it, on which vLLM is built."""
SHORT_FORM: Final = 8 * 1024
"""Bytes of a form up to which it is read in one go: at worst that takes about two milliseconds."""
MAX_BOUNDARY: Final = 70
_SHOWN: Final = 64
MAX_PART_HEAD: Final = 8 * 1024
MAX_DISPOSITION: Final = 2048
MAX_PARAMETERS: Final = 16
"""Bytes of a Content-Disposition, and semicolons in it, each of which takes time; a file's name may take 1.5 KiB."""
_MAX_VALUE: Final = 1024
_READ: Final = frozenset(("model", "stream"))


def read_multipart(raw: bytes, content_type: bytes) -> Body:
    """Find `model` and `stream` in a short form; raises as `read_long_form`."""
    return finish(read_long_form(Rope((raw,)), content_type, raw))


def read_long_form(rope: Rope, content_type: bytes, raw: bytes | None = None) -> Work[Body]:
    """Find `model` and `stream` in a form, a slice at a time; `raw` is a short one in one piece.

    Raises UnsupportedMediaType when it is no form and InvalidRequest when it is a broken one, or has no `model`.
    """
    spans, text = yield from _fields(rope, _boundary(content_type))
    if "model" not in spans:
        raise InvalidRequest("`model` is missing: name one of the models that GET /v1/models lists", param="model")
    for name, (start, end) in spans.items():
        if end - start > _MAX_VALUE:
            raise InvalidRequest(f"`{name}` is over {_MAX_VALUE} bytes", param=name)
    try:
        model = rope.read(*spans["model"]).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("`model` must be UTF-8 text", param="model") from None
    return Body(
        rope if raw is None else raw,
        model,
        stream=_stream(rope.read(*spans.get("stream", (0, 0)))),
        media=len(rope) - text,
        spans={"model": spans["model"]},
    )


def _boundary(content_type: bytes) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY:
        said = kind[:_SHOWN].decode("latin-1") or "nothing"
        raise UnsupportedMediaType(
            f'send "content-type: multipart/form-data" with a boundary of 1 to {MAX_BOUNDARY} bytes, as clients do for '
            f"files; this request said {said}"
        )
    return boundary


def _fields(rope: Rope, boundary: bytes) -> Work[tuple[dict[str, Span], int]]:
    """Return where the fields stand that are read here, and how many bytes all fields have that are not files."""
    delimiter = b"\r\n--" + boundary
    spans: dict[str, Span] = {}
    text, at = 0, 0
    if rope.read(0, len(delimiter) - 2) != delimiter[2:]:
        raise _broken("it does not begin with its boundary")
    at += len(delimiter) - 2
    for _ in range(MAX_PARTS + 1):
        mark = rope.read(at, at + 2)
        if mark == b"--":
            return spans, text
        if mark != b"\r\n":
            raise _broken("a line begins with its boundary and does not end there")
        name, start = _part(rope, at)
        end = yield from _find(rope, delimiter, start)
        if name is not None:
            text += end - start
            if name in spans:
                raise InvalidRequest(f"the field `{name}` appears twice", param=name)
            if name in _READ:
                spans[name] = start, end
        at = end + len(delimiter)
        yield
    raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")


def _part(rope: Rope, at: int) -> tuple[str | None, int]:
    """Return the name of the part after the line that ends at `at`, None for a file, and where its value begins."""
    head, found, _ = rope.read(at, at + MAX_PART_HEAD).partition(b"\r\n\r\n")
    if not found:
        raise _broken(f"it breaks off in the head of a part, or that is over {MAX_PART_HEAD} bytes")
    dispositions = []
    for line in head.split(b"\r\n")[1:]:
        field, colon, value = line.partition(b":")
        if not colon:
            raise _broken("a line in the head of a part is no field")
        if field.lower() == b"content-disposition":
            dispositions.append(value.strip())
    if len(dispositions) != 1:
        raise _broken("a part needs one Content-Disposition")
    disposition = dispositions[0]
    if len(disposition) > MAX_DISPOSITION or disposition.count(b";") > MAX_PARAMETERS:
        raise _broken(f"a Content-Disposition is over {MAX_DISPOSITION} bytes or {MAX_PARAMETERS} parameters")
    _, options = parse_options_header(disposition)
    name = None if b"filename" in options else options.get(b"name", b"").decode("latin-1")
    return name, at + len(head) + 4


def _find(rope: Rope, delimiter: bytes, at: int) -> Steps:
    size = 256
    while len(window := rope.read(at, at + size + len(delimiter))) >= len(delimiter):
        found = window.find(delimiter)
        if found >= 0:
            return at + found
        at += len(window) - len(delimiter) + 1
        size = min(2 * size, WINDOW)
        yield
    raise _broken("it ends before its closing boundary")


def _stream(value: bytes) -> bool:
    """Read a field as the engine does: as the text of a flag."""
    try:
        return flag(b'"%b"' % value.strip()) is True
    except ValueError:
        return False


def _broken(how: str) -> InvalidRequest:
    return InvalidRequest(f"the form cannot be read: {how}")
