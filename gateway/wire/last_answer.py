"""The head that an engine answered with last: it sends nearly the same one with every answer."""

from typing import Final

from gateway.wire.answer import AnswerHead
from gateway.wire.heads import Headers

_LENGTH: Final = b"content-length"
_OK: Final = 200


class LastAnswer:
    """Recognises the head of a 200 that differs from the last in nothing but how long the body is.

    It is shared by all connections to an engine. Other answers may be given other fields, and are read each for itself.
    """

    __slots__ = ("_fields", "_head")

    def __init__(self) -> None:
        self._head: AnswerHead | None = None
        self._fields: Headers = []

    def __repr__(self) -> str:
        return f"<LastAnswer of {len(self._fields)} fields>"

    def head(self, status: int, fields: Headers) -> AnswerHead:
        """Return the head of an answer, the last one where it is quite the same; raises Malformed."""
        if status != _OK:
            return AnswerHead(status, fields)
        last, known = self._head, self._fields
        count, longer = len(fields), -1
        if last is None or last.fields is not known or count != len(known):
            return self._noted(AnswerHead(status, fields))
        for index in range(count):
            field, before = fields[index], known[index]
            if field != before:
                if field[0] != _LENGTH or before[0] != _LENGTH:
                    return self._noted(AnswerHead(status, fields))
                longer = index
        if longer < 0:
            return last
        head = AnswerHead(status, [fields[longer]])
        head.fields, head.kind, head.coding, head.connection = fields, last.kind, last.coding, last.connection
        head.chunked, head.until_close, head.idle = last.chunked, last.until_close, last.idle
        head.forwarded = last.forwarded
        return self._noted(head)

    def _noted(self, head: AnswerHead) -> AnswerHead:
        self._head, self._fields = head, head.fields
        return head
