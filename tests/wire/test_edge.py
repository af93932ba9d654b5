"""Which peers are trusted."""

import pytest

from gateway.wire.edge import Edge, networks


@pytest.mark.parametrize(
    ("trusted", "peer", "expected"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("0.0.0.0/0,::/0", "", False),
        ("", "127.0.0.1", False),
        (" 192.0.2.1 , 192.0.2.2,", "192.0.2.2", True),
    ],
)
def test_peers_are_known_by_their_address(trusted: str, peer: str, expected: bool) -> None:
    assert Edge(networks(trusted)).trusts(peer) is expected


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "*"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        networks(text)
