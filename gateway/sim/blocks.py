"""The KV cache as blocks: who holds how many, and which prompt prefixes are still in it."""

from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """A fixed number of KV blocks, some of them holding known prompt prefixes.

    A block is free, private to one sequence, or shared under the hash of the prompt prefix that it ends. Shared
    blocks that are no longer used stay findable until their space is needed, least recently used first, and
    count as free meanwhile.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._blank = total
        self._users: dict[bytes, int] = {}
        self._idle: OrderedDict[bytes, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<BlockPool {self.used}/{self.total} used, {len(self._idle)} idle>"

    @property
    def free(self) -> int:
        """Blocks that can be taken now, idle prefixes included."""
        return self._blank + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks that sequences hold."""
        return self.total - self.free

    def take(self, count: int) -> bool:
        """Take `count` private blocks, or none at all and return False."""
        if count > self.free:
            return False
        while self._blank < count:
            evicted, _ = self._idle.popitem(last=False)
            del self._users[evicted]
            self._blank += 1
        self._blank -= count
        return True

    def give(self, count: int) -> None:
        """Give back private blocks."""
        self._blank += count

    def known(self, prefix: Sequence[bytes]) -> int:
        """How many leading blocks of `prefix` are in the cache."""
        for count, block in enumerate(prefix):
            if block not in self._users:
                return count
        return len(prefix)

    def pin(self, block: bytes) -> None:
        """Use a known block; it cannot be evicted until it is unpinned as often."""
        self._users[block] += 1
        self._idle.pop(block, None)

    def unpin(self, block: bytes) -> None:
        """Stop using a known block."""
        self._users[block] -= 1
        if not self._users[block]:
            self._idle[block] = None

    def publish(self, block: bytes) -> bool:
        """Turn one private block of the caller's into a known, pinned one; False if that prefix is known already."""
        if block in self._users:
            return False
        self._users[block] = 1
        return True
