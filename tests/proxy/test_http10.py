"""Clients of HTTP/1.0 keep their connection where the answer says how long it is."""

from gateway.proxy.http10 import Kept
from tests.proxy.clients import Page


def test_a_whole_answer_is_told_to_keep_the_connection() -> None:
    page = Page()
    client = Kept(page)
    client.reply(200, b"x: y\r\n", b"hi")
    client.finish()
    assert page.took() == b"HTTP/1.1 200 OK\r\nx: y\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi"
    assert page.ended == "finished"


def test_so_is_one_in_pieces_that_has_a_length() -> None:
    page = Page()
    client = Kept(page)
    client.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
    client.write(b"i")
    client.finish()
    assert page.took() == b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
    assert page.ended == "finished"


def test_one_without_a_length_is_ended_by_closing() -> None:
    page = Page()
    client = Kept(page)
    client.write(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\ncontent-length: is text here")
    client.finish()
    assert page.took().startswith(b"HTTP/1.1 200 OK\r\nconnection: close\r\nx: y\r\n")
    assert page.ended == "broken off"


def test_where_the_connection_ends_anyway_the_answer_says_so_itself() -> None:
    page = Page(keep_alive=False)
    client = Kept(page)
    client.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")
    assert page.took().count(b"connection:") == 1
    client.reply(200, b"", b"")
    assert b"keep-alive" not in page.took()
