"""What stands around a client's connection changes what it has to, and nothing else."""

from gateway.proxy.around import Around
from tests.proxy.clients import Page


class Signed(Around):
    """Changes whole answers, of which one in JSON is one."""

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        super().reply(status, head + b"signed: yes\r\n", body)


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


def test_an_answer_in_json_is_a_whole_answer() -> None:
    page = Page()
    Signed(page).reply_json(404, b"", {"a": 1})
    assert page.took() == (
        b'HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nsigned: yes\r\ncontent-length: 7\r\n\r\n{"a":1}'
    )


def test_one_may_stand_around_another() -> None:
    page = Page()
    Signed(Signed(page)).reply(200, b"", b"")
    assert page.took().count(b"signed: yes") == 2
