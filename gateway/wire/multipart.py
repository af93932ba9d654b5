"""Finding `model` among the fields of a form (RFC 7578), for the audio endpoints, so that it can be spliced."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import InvalidRequest, UnsupportedMediaType
from gateway.wire.body import Body

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


class _Fields:
    """Collects where the values of the two fields stand; a file's bytes are only passed over."""

    def __init__(self) -> None:
        self.spans: dict[str, tuple[int, int]] = {}
        self.repeated: str | None = None
        self.complete = False
        self._header = b""
        self._disposition = b""
        self._name: str | None = None
        self._start = self._end = -1

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._finished,
        }

    def _part_begin(self) -> None:
        self._header = self._disposition = b""
        self._value = b""
        self._name = None
        self._start = self._end = -1

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            self._name = options.get(b"name", b"").decode("latin-1")

    def _part_data(self, _data: bytes, start: int, end: int) -> None:
        if self._start < 0:
            self._start = start
        self._end = end

    def _part_end(self) -> None:
        if self._name is None:
            return
        if self._name in self.spans and self._name in {"model", "stream"}:
            self.repeated = self._name
        self.spans[self._name] = (self._start, self._end)

    def _finished(self) -> None:
        self.complete = True


def read_multipart(raw: bytes, content_type: bytes) -> Body:
    """Find `model` and `stream` in a form.

    Raises UnsupportedMediaType when it is no form and InvalidRequest when it is a broken one, or has no `model`.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMediaType("the content type must be multipart/form-data with a boundary")
    fields = _Fields()
    try:
        parser = MultipartParser(boundary, fields.callbacks(), max_size=max(1, len(raw)))
        parser.write(raw)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"the form cannot be read: {error}") from None
    if not fields.complete:
        raise InvalidRequest("the form ends before its closing boundary")
    if fields.repeated:
        raise InvalidRequest(f"the field `{fields.repeated}` appears twice", param=fields.repeated)
    start, end = fields.spans.get("model", (-1, -1))
    if start < 0:
        raise InvalidRequest("`model` is missing: name one of the models that GET /v1/models lists", param="model")
    try:
        model = raw[start:end].decode()
    except UnicodeDecodeError:
        raise InvalidRequest("`model` must be UTF-8 text", param="model") from None
    at, to = fields.spans.get("stream", (0, 0))
    stream = raw[at:to].strip().lower() in {b"true", b"1"}
    media = len(raw) - sum(end - start for start, end in fields.spans.values())
    return Body(raw, model, stream=stream, media=media, spans={"model": (start, end)})
