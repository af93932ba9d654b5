"""Lasting state in Redis or Valkey, which gateways on many machines share."""

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import islice
from typing import Any, Final

from gateway import clock
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.series import SlotCounts
from gateway.policy.slo.windows import FINE, LASTING, STORED
from gateway.state import believed, findings, redis_client
from gateway.state import store as contract
from gateway.state.redis_scripts import BEGIN, LEAD, MEMBERS, MERGE, RECOVERY, RESIGN, RESTORE, SAVE, SETTLE
from gateway.state.slot_table import SlotTable
from gateway.state.store import (
    SHARED_KINDS,
    Batch,
    Document,
    Ejection,
    Member,
    Members,
    Record,
    Recovery,
    Reply,
    Response,
    Returned,
    Saved,
    StateError,
    UnusableState,
    is_held,
)

_PER_CHUNK: Final = 60
"""Slots in one key: it expires as a whole when no window holds any of them."""
_SLACK: Final = 7200
"""Seconds by which clocks may be wrong before a key expires too early."""
_LASTS: Final = {f"{width:g}": int(STORED[width] + _PER_CHUNK * width) + _SLACK for width in LASTING}
_REMEMBERED: Final = 310_000
"""Milliseconds for which changes can be asked for: as long as some window holds the finest slots."""
_LISTS: Final[dict[str, tuple[float, int]]] = {
    "records": (contract.RECORDS_STORED, 10_000),
    "ejections": (contract.EJECTIONS_STORED, 10_000),
    "responses": (contract.RESPONSES_STORED, contract.RESPONSES_LOADED),
}
"""What is kept in order of time: for how many seconds, and how many at most."""
_EJECTIONS_LOADED: Final = 1000
_PART: Final = 2000
"""Rows that one script adds to the sums: the server does nothing else for some milliseconds."""
_STAGED: Final = 600
"""Seconds that what is staged stays, where its process does not go on."""
_MERGE_SECONDS: Final = 2.0
"""How long one call adds rows: the lease must be renewed meanwhile."""
_POLICY: Final = "noeviction"


class RedisStore:
    """One server, or several that act as one; connected when it is first used."""

    remote = True

    def __init__(self, url: str) -> None:
        """Take a URL that `redis_client.connect` knows; raises UnusableState for one that is none."""
        self._url = url
        self._where = redis_client.redacted(url)
        self._connected: Any = None
        self._seconds = redis_client.TIMEOUT
        self._prefix = ""
        self._checked = False
        try:
            self._connect()
        except UnusableState:
            raise
        except StateError:  # of a cluster that is away
            self._connected = None

    def __repr__(self) -> str:
        return f"<RedisStore {self._where}>"

    @property
    def _client(self) -> Any:
        return self._connect() if self._connected is None else self._connected

    def _connect(self) -> Any:
        self._connected, prefix = redis_client.connect(self._url, self._seconds)
        self._prefix = f"{{{prefix}}}"
        return self._connected

    @property
    def where(self) -> str:
        """Return where it is, without its password."""
        return self._where

    def _check(self) -> None:
        """Raise UnusableState for a server that would drop what is stored when its memory is full."""
        if self._checked:
            return
        found = self._call(self._client.info, "memory")
        if found and "maxmemory_policy" not in found:  # a cluster answers by node
            found = next(iter(found.values()))
        policy = found.get("maxmemory_policy", _POLICY)
        if policy != _POLICY:
            raise UnusableState(
                f"{self._where} has maxmemory-policy {policy}, under which it drops counts when its memory is full: "
                f"run `CONFIG SET maxmemory-policy {_POLICY}`, and write that into its configuration"
            )
        self._checked = True

    def wall(self) -> float:
        """Return the server's time, this machine's where it does not answer."""
        before = clock.monotonic()
        try:
            return self._time() + clock.monotonic() - before
        except StateError:
            return clock.wall()

    def ahead(self, now: float) -> float:
        """Return by how much a process is ahead of the server's time: it may have started while that was not told."""
        return now - self._time()

    def _time(self) -> float:
        """Return the server's time as it was when it was asked for."""
        before, (seconds, micros) = clock.monotonic(), self._call(self._client.time)
        return float(seconds) + float(micros) / 1e6 - (clock.monotonic() - before) / 2

    def load(self, now: float, own: str = "") -> Saved:
        """Return what some window still holds at `now`, less what `own` has counted."""
        self._check()
        epoch, version = self._run(BEGIN, secrets.token_hex(8))
        slots: Iterable[SlotCounts] = self._counts("sums", now)
        if own:
            slots = SlotTable(self._counts("rows", now, f":{own}")).rest(slots)
        documents = self._call(self._client.hgetall, self._key("documents"))
        records, ejections, responses = (
            [json.loads(each) for each in self._call(self._client.zrange, self._key(name), -most, -1)]
            for name, most in (
                ("records", contract.RECORDS_LOADED),
                ("ejections", _EJECTIONS_LOADED),
                ("responses", contract.RESPONSES_LOADED),
            )
        )
        return Saved(
            tuple(each for each in slots if is_held(each, now)),
            tuple(each for each in believed.ejections(ejections) if each.at > now - contract.EJECTIONS_STORED),
            tuple(_documents(documents.items())),
            tuple(believed.records(records, now)),
            tuple(each for each in believed.responses(responses, now) if each.at > now - contract.RESPONSES_STORED),
            epoch,
            int(version),
        )

    def save(self, batch: Batch) -> Reply:
        """Save a batch in one script."""
        self._check()
        documents = [text for each in batch.documents for text in (json.dumps([each.kind, each.name]), each.body)]
        listed, found = list(_listed(batch)), findings.packed(batch)
        asked = {
            "incarnation": batch.incarnation,
            "sequence": batch.sequence,
            "acknowledged": batch.acknowledged,
            "epoch": batch.epoch,
            "fresh": secrets.token_hex(8),
            "seen": batch.seen,
            "returning": batch.returning,
            "more": batch.more,
            "every": batch.every,
            "unread": batch.unread,
            "token": batch.token,
            "counts": len(batch.counts),
            "documents": len(batch.documents),
            "free": [json.dumps([each])[:-1] + "," for each in sorted(contract.FREE)],
            "listed": len(listed) // 3,
            "findings": len(found),
            "lasts": _LASTS,
            "remembered": _REMEMBERED,
        }
        rows = _rows(batch.counts, every=batch.every)
        epoch, sequence, version, ended, others, totals, edited, told, led, missed, flushed = self._run(
            SAVE, json.dumps(asked), *rows, *documents, *listed, *found
        )
        return Reply(
            epoch,
            int(sequence),
            int(version),
            tuple(_slots(zip(others[::2], others[1::2], strict=True), FINE)),
            tuple(_totals(zip(totals[::3], totals[1::3], totals[2::3], strict=True))),
            tuple(_documents(zip(edited[::2], edited[1::2], strict=True))),
            bool(ended),
            tuple(findings.unpacked(batch, zip(told[::2], (int(age) / 1000 for age in told[1::2]), strict=True))),
            bool(led),
            bool(missed),
            tuple((each, int(number)) for each, _, number in (every.rpartition(" ") for every in flushed)),
        )

    def recovery(self, incarnation: str) -> Recovery:
        """Return what a process that came back has to do; it helps to restore what another could not finish."""
        what = self._run(RECOVERY, incarnation, int(contract.RECOVERY_SECONDS * 1000))
        if what == "merge":
            return Recovery.DONE if self._merge(incarnation) else Recovery.WAIT
        return Recovery(what)

    def returned(self, among: Iterable[SlotCounts]) -> Returned:
        """Return the counts of all processes that came back, of the slots that are `among` these."""
        arrivals = int(self._call(self._client.hget, self._key("store"), "arrivals") or 0)
        ids = self._call(self._client.hkeys, self._key("returned"))
        chunks = sorted({(each.width, each.slot // _PER_CHUNK) for each in among})
        found = believed.together(each for own in ids for each in self._read("rows", chunks, f":{own}"))
        return Returned(tuple(found), arrivals)

    def restore(self, incarnation: str, counts: Sequence[SlotCounts], arrivals: int, heard: Mapping[str, int]) -> bool:
        """Write what ended processes had, once: aside, and in parts, and then as a whole.

        It is in the sums when `recovery` says that all is done.
        """
        staged = self._key(f"staged:{incarnation}")
        self._call(self._client.unlink, staged)
        # The finest slots first: who reads amid it would take what these have more then as new in wider ones, too.
        rows = _staged(sorted(counts, key=lambda each: each.width))
        while part := tuple(islice(rows, _PART)):
            self._call(self._client.rpush, staged, *part)
            self._call(self._client.expire, staged, _STAGED)
        asked = json.dumps({"arrivals": str(arrivals), "heard": heard, "rows": len(counts)})
        if self._run(RESTORE, incarnation, asked):
            return True
        self._call(self._client.unlink, staged)
        return False

    def _merge(self, incarnation: str) -> bool:
        """Add what was restored to the sums, in parts and not for long; return whether all of it is there."""
        asked = json.dumps({"lasts": _LASTS, "most": _PART})
        until = clock.monotonic() + _MERGE_SECONDS
        while (left := self._run(MERGE, incarnation, asked)) > 0:
            if clock.monotonic() > until:
                return False
        return bool(left == 0)

    def restored_from(self, incarnation: str) -> int:
        """Return which batch of a process was the last that is in what was restored."""
        return int(self._call(self._client.hget, self._key("heard"), incarnation) or 0)

    def members(self, now: float) -> Members:  # noqa: ARG002 - the server's clock counts
        """Return who has saved something in the last seconds, and who leads."""
        seconds = int(contract.MEMBER_SECONDS * 1000)
        alive, leader, latest = self._run(MEMBERS, seconds, contract.MEMBERS_NAMED)
        found = (Member(name, int(since) / 1000) for name, since in zip(latest[::2], latest[1::2], strict=True))
        return Members(int(alive), leader, tuple(found))

    def lead(self, owner: str, now: float, seconds: float) -> int:  # noqa: ARG002 - the server's clock counts
        """Take or renew the lease, which the server ends on its own clock."""
        self._check()
        return int(self._run(LEAD, owner, int(seconds * 1000)))

    def resign(self, owner: str) -> None:
        """Give the lease back, if it is held."""
        self._run(RESIGN, owner)

    def settle(self, owner: str, token: int, now: float) -> int:
        """Settle the rows of silent processes, and forget what is kept in order of time and too old.

        If those that came back to an emptied store are gone, what they restored is still to be added.
        """
        self._merge(owner)
        chunks = [f"{width:g}:{chunk}" for width, chunk in _chunks(now)]
        milliseconds = int(contract.SILENT_SECONDS * 1000), int(90 * DAY * 1000)
        return int(self._run(SETTLE, owner, token, *milliseconds, json.dumps(_LISTS), *chunks))

    def _wait_longer(self) -> None:
        """Connect anew, with twice the time for an answer: a server that is always late would never save anything."""
        self._seconds = min(redis_client.MOST_SECONDS, 2 * self._seconds)
        self.close()
        self._connected = None

    def close(self) -> None:
        """Close the connections."""
        if self._connected is not None:
            self._connected.close()

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _counts(self, kind: str, now: float, ending: str = "") -> list[SlotCounts]:
        return self._read(kind, list(_chunks(now)), ending)

    def _read(self, kind: str, chunks: Sequence[tuple[float, int]], ending: str) -> list[SlotCounts]:
        pipeline = self._client.pipeline(transaction=False)
        for width, chunk in chunks:
            pipeline.hgetall(self._key(f"{kind}:{width:g}:{chunk}{ending}"))
        found = self._call(pipeline.execute)
        return [slot for (width, _), each in zip(chunks, found, strict=True) for slot in _slots(each.items(), width)]

    def _run(self, script: str, *arguments: Any) -> Any:
        client = self._client
        return self._call(client.eval, script, 1, self._prefix, *arguments)

    def _call(self, call: Any, *arguments: Any) -> Any:
        from redis.exceptions import AuthenticationError, RedisError, TimeoutError  # noqa: A004, PLC0415 - is loaded by now

        began = clock.monotonic()
        try:
            answer = call(*arguments)
            if clock.monotonic() - began < redis_client.TIMEOUT / 2:
                self._seconds = redis_client.TIMEOUT
            return answer
        except (RedisError, OSError, ValueError) as error:
            self._checked = False
            if isinstance(error, TimeoutError):
                self._wait_longer()
            unusable = isinstance(error, AuthenticationError)
            raise (UnusableState if unusable else StateError)(f"{self._where} {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return what went wrong, and how to fix it where that is not plain."""
    from redis import exceptions  # noqa: PLC0415 - is loaded by now

    meanings: tuple[tuple[type[Exception], str], ...] = (
        (exceptions.NoPermissionError, "does not permit what is needed: allow this user EVAL and what scripts run"),
        (exceptions.TimeoutError, "does not answer in time"),
        (exceptions.AuthenticationError, "refuses the user name or password of the URL (//USER:PASSWORD@HOST)"),
        (exceptions.ReadOnlyError, "is a replica, which takes no writes: name the primary, or its Sentinels"),
        (exceptions.OutOfMemoryError, "is full: raise its maxmemory"),
        (exceptions.ConnectionError, "cannot be reached"),
        (OSError, "cannot be reached"),
    )
    meaning = next((words for kind, words in meanings if isinstance(error, kind)), "failed")
    if "unknown command" in str(error).lower():
        meaning = "does not know a command that is needed: EVAL may be renamed or forbidden there"
    said = re.sub(r"^Error (-?\d+ )?connecting to .*?\. (?=.)", "", str(error)).rstrip(".")
    return meaning if "HELLO" in said else f"{meaning} ({said})"  # that of a server which wants a password says nothing


def _chunks(now: float) -> Iterator[tuple[float, int]]:
    """Yield width and number of every key that may hold what a window holds, or a clock that is ahead writes."""
    for width in LASTING:
        span = _PER_CHUNK * width
        for chunk in range(int((now - STORED[width]) // span), int((now + _SLACK) // span) + 1):
            yield width, chunk


def _rows(counts: Iterable[SlotCounts], *, every: bool) -> Iterator[str]:
    """Yield chunk, field, row and whether others are told of it: only in the finest slots, or in `every` one."""
    names: dict[Any, str] = {}
    for each in counts:
        series = names.get(each.series) or names.setdefault(each.series, json.dumps(list(each.series)))
        yield f"{each.width:g}:{each.slot // _PER_CHUNK}"
        yield f"{each.slot} {series}"
        yield f"{each.good} {each.bad} {each.first:.3f} {each.last:.3f}"
        yield "1" if (every or each.width == FINE) and each.series.kind in SHARED_KINDS else ""


def _staged(counts: Iterable[SlotCounts]) -> Iterator[str]:
    """Yield chunk, row and field in one text each."""
    rows = _rows(counts, every=False)
    for chunk, field, row, _ in zip(rows, rows, rows, rows, strict=True):
        yield f"{chunk} {row} {field}"


def _slots(rows: Iterable[tuple[str, str]], width: float) -> Iterable[SlotCounts]:
    return believed.slots((row for row in (_parsed(*each, width) for each in rows) if row), STORED)


def _totals(rows: Iterable[tuple[str, str, str]]) -> Iterable[SlotCounts]:
    found = (_parsed(field, row, int(width)) for width, field, row in rows)
    return believed.slots((row for row in found if row), STORED)


def _parsed(field: str, row: str, width: float) -> tuple[Any, ...]:
    """Return a row as `believed` takes it, empty where it is none."""
    try:
        slot, _, series = field.partition(" ")
        good, bad, first, last = row.split(" ")
        kind, name, objective, sli, prompt_tokens = json.loads(series)
        counts = int(slot), int(good), int(bad), float(first), float(last)
    except (ValueError, TypeError):
        return ()
    return kind, name, objective, sli, prompt_tokens, width, *counts


def _documents(rows: Iterable[tuple[str, str]]) -> Iterator[Document]:
    for name, body in rows:
        try:
            kind, subject = json.loads(name)
        except (ValueError, TypeError):
            continue
        yield from believed.documents([(kind, subject, body)])


def _listed(batch: Batch) -> Iterator[str]:
    """Yield the list, the time and the text of what is kept in order of time: to save one again changes nothing."""
    lists: dict[str, tuple[Record | Ejection | Response, ...]] = {
        "records": batch.records,
        "ejections": batch.ejections,
        "responses": batch.responses,
    }
    for name, every in lists.items():
        for each in every:
            yield from (name, repr(each.at), json.dumps(astuple(each)))
