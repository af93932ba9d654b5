import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.addresses import Address, parse_address
from gateway.config.problems import InvalidValueError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://a", Address("http", "a", 80, "")),
        ("https://a", Address("https", "a", 443, "")),
        ("http://a:8000/", Address("http", "a", 8000, "")),
        ("HTTP://Vllm_0.Serving.svc.", Address("http", "vllm_0.serving.svc.", 80, "")),
        ("http://10.0.0.1:1", Address("http", "10.0.0.1", 1, "")),
        ("http://[2001:DB8:0::1]:8000", Address("http", "2001:db8::1", 8000, "")),
        ("https://a/engines/llama/", Address("https", "a", 443, "/engines/llama")),
        ("https://a/v1beta", Address("https", "a", 443, "/v1beta")),
        ("https://a/v1/accounts/7", Address("https", "a", 443, "/v1/accounts/7")),
    ],
)
def test_an_address_is_the_same_however_it_is_spelled(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(address.url) == address


@given(st.one_of(st.text(), st.from_regex(r"https?://[\x21-\x7e]{0,40}", fullmatch=True)))
def test_any_text_is_an_address_with_one_spelling_or_none(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidValueError:
        return
    assert parse_address(address.url) == address
