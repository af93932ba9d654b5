"""How a document is framed for its client."""


class DocumentFraming:
    """The head of an answer, and what follows from how its engine framed it.

    A document that is whole has its length, and so has one that flows if its engine said so. Others flow in chunks, or
    up to the end of the connection where the client speaks HTTP/1.0. `head` lacks only the field that says which.
    """

    __slots__ = ("_head", "_length", "chunked")

    def __init__(self, head: bytes, *, length: int | None, chunked: bool) -> None:
        self._head = head
        self._length = length
        self.chunked = chunked and length is None

    def __repr__(self) -> str:
        return f"<DocumentFraming {'chunked' if self.chunked else self._length}>"

    def whole(self, body: bytes) -> bytes:
        """Return a whole answer."""
        return b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(body), body)

    def beginning(self, body: bytes, longer: int) -> bytes:
        """Return the head and the first piece of a document that flows, which was made longer by so many bytes."""
        if self.chunked:
            return b"%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (self._head, len(body), body)
        if self._length is None:
            return b"%b\r\n%b" % (self._head, body)
        return b"%bcontent-length: %d\r\n\r\n%b" % (self._head, self._length + longer, body)
