"""What stands around a client's connection changes what it has to, and nothing else."""

from gateway.proxy.around import Around
from gateway.proxy.cors import CrossOrigin
from gateway.proxy.replies import Bodiless
from tests.proxy.clients import Page


def test_everything_is_passed_on() -> None:
    page = Page(keep_alive=False)
    around = Around(page)
    assert (around.keep_alive, around.peer) == (False, page.peer)
    around.write(b"a")
    around.reply(200, b"x: y\r\n", b"b")
    assert page.took() == b"aHTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 1\r\n\r\nb"
    around.finish()
    assert page.ended == "finished"
    around.break_off()
    assert page.ended == "broken off"


def test_an_answer_in_json_is_a_whole_answer_to_what_stands_around() -> None:
    page = Page()
    Bodiless(page).reply_json(404, b"", {"a": 1})
    assert page.took() == b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n"


def test_one_may_stand_around_another() -> None:
    page = Page()
    Bodiless(CrossOrigin(page, b"https://app.example")).reply(200, b"", b"hi")
    told = page.took()
    assert told.count(b"access-control-allow-origin: https://app.example\r\n") == 1
    assert told.endswith(b"content-length: 2\r\n\r\n")
