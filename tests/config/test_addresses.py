import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.addresses import Address, check_url, parse_address, parse_name_server
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


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "https://hooks.example/services/T0/B0/x",
        "HTTPS://User:pa%40ss@Hooks.example:8443/hook/?token=a&b#c",
        "http://[::1]:9093?x",
    ],
)
def test_a_webhook_may_have_a_user_a_query_and_any_path_and_stays_as_it_is(url: str) -> None:
    assert check_url(url, "") == url


@pytest.mark.parametrize(
    "url", ["https://user@", "https://user@:80/", "http://[::1", "http://a:b", "http://::1/", " http://a"]
)
def test_what_no_request_can_be_sent_to_is_no_url(url: str) -> None:
    with pytest.raises(InvalidValueError):
        check_url(url, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("127.0.0.1:8600", ("127.0.0.1", 8600)),
        ("fd00::1", ("fd00::1", 53)),
        ("[fd00::1]:5353", ("fd00::1", 5353)),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_name_server(text) == expected


@pytest.mark.parametrize("text", ["dns.example", "10.0.0.2:", "10.0.0.2:0", "10.0.0.2:70000", "10.0.0", ""])
def test_a_name_server_that_has_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a port|is not the IP address of a name server: write it as"):
        parse_name_server(text)
