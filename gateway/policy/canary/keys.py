"""Which sticky keys have been counted: a Bloom filter, so that millions of sessions cost a fixed piece of memory."""

from base64 import b64decode, b64encode
from hashlib import blake2b
from typing import Final
from zlib import compress, decompress, error

_BITS: Final = 21
_SIZE: Final = 1 << _BITS
_MASK: Final = _SIZE - 1


def hashed(key: bytes) -> int:
    """Return 64 bits of a key, the same in every process."""
    return int.from_bytes(blake2b(key, digest_size=8).digest())


class Keys:
    """Hashed keys. One that was added is always known; one that was not may seem known, and is then not counted.

    Either is independent of how its requests ended, so nothing is biased by it.
    """

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray()

    def __repr__(self) -> str:
        return f"<Keys {int.from_bytes(self._bits).bit_count() / _SIZE:.1%} full>"

    def is_new(self, key: int) -> bool:
        """Add a hashed key; return whether it had not been added before."""
        bits = self._bits
        if not bits:
            bits = self._bits = bytearray(_SIZE >> 3)
        new = False
        for _ in range(3):
            place = key & _MASK
            key >>= _BITS
            byte, bit = place >> 3, 1 << (place & 7)
            if not bits[byte] & bit:
                bits[byte] |= bit
                new = True
        return new

    def state(self) -> str:
        """Return what has to be kept over a restart."""
        return b64encode(compress(bytes(self._bits), 1)).decode()

    def restore(self, state: str) -> None:
        """Take back what `state` gave; raises ValueError for what it cannot have given."""
        try:
            bits = bytearray(decompress(b64decode(state)))
        except error as wrong:
            raise ValueError("these are no keys") from wrong
        if len(bits) not in {0, _SIZE >> 3}:
            raise ValueError("these are keys of another size")
        self._bits = bits
