"""Finding the model in a form, and refusing forms that another parser might read otherwise."""

import pytest

from gateway.errors import InvalidRequest, UnsupportedMediaType
from gateway.wire.multipart import read_long_form, read_multipart
from gateway.wire.rope import Rope
from gateway.wire.slices import finish
from tests.wire.forms import FILE, MODEL, TYPE, form


@pytest.mark.parametrize("parts", [(MODEL, FILE), (FILE, MODEL), (FILE, ('name="stream"', b"true"), MODEL)])
def test_a_forms_model_is_found_and_spliced(parts: tuple[tuple[str, bytes], ...]) -> None:
    raw = form(*parts)
    body = read_multipart(raw, TYPE)
    assert (body.model, body.stream) == ("whisper", len(parts) == 3)
    assert body.rewritten(b"openai/whisper-large", add_usage=False) == raw.replace(b"whisper", b"openai/whisper-large")


@pytest.mark.parametrize(
    ("raw", "kind", "error"),
    [
        (form(FILE), TYPE, "`model` is missing"),
        (form(MODEL, MODEL), TYPE, "twice"),
        (form(MODEL, end=False), TYPE, "ends before"),
        (b"junk", TYPE, "cannot be read|ends before"),
        (form(('name="model"', b"\xff")), TYPE, "UTF-8"),
    ],
)
def test_broken_forms(raw: bytes, kind: bytes, error: str) -> None:
    with pytest.raises(InvalidRequest, match=error):
        read_multipart(raw, kind)


@pytest.mark.parametrize("kind", [b"application/json", b"multipart/form-data", b""])
def test_what_is_no_form(kind: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        read_multipart(form(MODEL), kind)


def test_a_file_may_have_a_long_name() -> None:
    name = 255 * "%E5"
    long = form(MODEL, (f'name="file"; filename="{name}"; filename*=UTF-8\'\'{name}', b"x"))
    assert finish(read_long_form(Rope((long,)), TYPE)).model == "whisper"


def test_a_form_that_another_parser_might_read_otherwise_is_refused() -> None:
    for raw in (
        b"x" + form(MODEL, FILE),
        form(MODEL, FILE).replace(b"--b0\r\n", b"--b0 \r\n"),
        form(('name="model"\r\ncontent-disposition: form-data; name="stream"', b"m")),
        form(('name="model"\r\nno field', b"m")),
        form(('name="model"' + 17 * ";", b"m")),
        form(('name="model"; x="' + 2048 * "x" + '"', b"m")),
        form(MODEL, ('name="x"', b"\r\n--b0x\r\n")),
    ):
        with pytest.raises(InvalidRequest):
            finish(read_long_form(Rope((raw,)), TYPE))


def test_a_forms_file_is_not_text() -> None:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(9000) + b"\r\n--b--\r\n"
    )
    body = read_multipart(form, b"multipart/form-data; boundary=b")
    assert len(form) - body.media == len(b"m")
