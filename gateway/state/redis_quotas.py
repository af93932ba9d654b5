"""Quotas that gateways on several machines share by Redis or Valkey. No request waits for what happens here.

One script, in one step, adds up what each machine has charged, and answers how far the buckets are. A machine sends
all that it ever charged, so that to send it again changes nothing.

    PREFIX:quotas            hash: tenant -> when its buckets of requests and of tokens will be full, in ms
    PREFIX:quotas:of:ID      hash: tenant -> "since sequence requests tokens" that one machine has charged
    PREFIX:quotas:scarce     sorted set: tenant -> until when less than half of a bucket is left, in ms
    PREFIX:quotas:members    sorted set: ID -> when it was last here, in ms
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from gateway.state.redis_client import connect, redacted
from gateway.state.store import StateError

SCARCE_AT_ONCE: Final = 500
_MEMBER_SECONDS: Final = 5
_LATE: Final = 3
"""Seconds after which a machine that was away does not put a bucket into debt by what it has charged meanwhile."""
_ROW_SECONDS: Final = 600

_EXCHANGE: Final = """
local prefix = KEYS[1] .. ':quotas'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local function text(number) return string.format('%.3f', number) end
local id, sequence, asked, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local own, members, scarce = prefix .. ':of:' .. id, prefix .. ':members', prefix .. ':scarce'
local last = redis.call('ZSCORE', members, id)
local late = not last or now - last > tonumber(ARGV[5])
redis.call('ZADD', members, text(now), id)
redis.call('ZREMRANGEBYSCORE', members, '-inf', text(now - ARGV[6]))
local function charged(full, each, had, has)
  local added = math.max(full, now) + (has - had) * each
  if late and has > had then added = math.min(added, math.max(full, now + 60000)) end
  return added
end
local answers, known = {}, {}
local at = 8
for _ = 1, asked do
  local name, since = ARGV[at], ARGV[at + 1]
  local state = redis.call('HGET', prefix, name)
  local row = redis.call('HGET', own, name)
  local began, seen, counts = nil, nil, {}
  if row then began, seen, counts[1], counts[2] = string.match(row, '^(%S+) (%S+) (%S+) (%S+)$') end
  local held, full = began == since, {}
  if state then full[1], full[2] = string.match(state, '^(%S+) (%S+)$') end
  local old = held and tonumber(seen) >= tonumber(sequence)
  for kind = 1, 2 do
    local place = at + 2 + (kind - 1) * 4
    local each, has, heard, full_in = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
    if not state then
      -- What is full is forgotten. A machine that charged nothing may know of it by what it heard before that.
      full[kind] = now + (held and (has - counts[kind]) * each or tonumber(has) > 0 and full_in or 0)
      if not old then counts[kind] = has end
    elseif not old then
      local had = held and counts[kind] or heard
      full[kind] = charged(tonumber(full[kind]), tonumber(each), tonumber(had), tonumber(has))
      counts[kind] = has
    end
  end
  local until_full = math.max(full[1], full[2])
  if until_full > now then
    redis.call('HSET', prefix, name, text(full[1]) .. ' ' .. text(full[2]))
  elseif state then
    redis.call('HDEL', prefix, name)
  end
  if until_full - 30000 > now then
    redis.call('ZADD', scarce, text(until_full - 30000), name)
  else
    redis.call('ZREM', scarce, name)
  end
  if not old then redis.call('HSET', own, name, table.concat({since, sequence, counts[1], counts[2]}, ' ')) end
  known[name] = true
  for _, each in ipairs({name, since, text(full[1] - now), counts[1], text(full[2] - now), counts[2]}) do
    answers[#answers + 1] = each
  end
  at = at + 10
end
if asked > 0 then
  redis.call('EXPIRE', own, ARGV[7])
  redis.call('EXPIRE', prefix, ARGV[7])
end
redis.call('ZREMRANGEBYSCORE', scarce, '-inf', text(now))
if most > 0 then
  for _, name in ipairs(redis.call('ZREVRANGEBYSCORE', scarce, '+inf', text(now), 'LIMIT', 0, most)) do
    local state = not known[name] and redis.call('HGET', prefix, name)
    if state then
      local first, second = string.match(state, '^(%S+) (%S+)$')
      local since, _, requests, tokens =
        string.match(redis.call('HGET', own, name) or '', '^(%S+) (%S+) (%S+) (%S+)$')
      for _, each in ipairs({name, since or '', text(first - now), requests or '', text(second - now), tokens or ''}) do
        answers[#answers + 1] = each
      end
    end
  end
end
return {redis.call('ZCARD', members), answers}
"""


class Charged(NamedTuple):
    """What a machine charged one bucket: all, and how much of it was in what it `heard` last.

    `size` is what the bucket holds, 0 where there is no limit, and `full_in` when it is full as this machine sees it.
    """

    size: int
    total: float
    heard: float
    full_in: float


class TenantCharged(NamedTuple):
    """What a machine charged one tenant; `since` names the time from which on it adds that up."""

    name: str
    since: str
    requests: Charged
    tokens: Charged


class TenantHeard(NamedTuple):
    """How far a tenant's buckets are: seconds until full, with so much of what the asking machine charged.

    `charged` is None, and `since` empty, where that machine has told nothing.
    """

    name: str
    since: str
    requests_full_in: float
    requests_charged: float | None
    tokens_full_in: float
    tokens_charged: float | None


class Heard(NamedTuple):
    """What an exchange comes to: how many machines take part in it, and tenants: those asked for, and scarce ones."""

    members: int
    tenants: tuple[TenantHeard, ...]


class QuotaExchange(Protocol):
    """Where machines tell each other what they charge. Calls block; they come from one thread at a time."""

    @property
    def where(self) -> str:
        """Return where it is, without passwords."""

    def exchange(self, machine: str, sequence: int, tenants: Sequence[TenantCharged], *, scarce: bool) -> Heard:
        """Tell what a machine has charged; raises StateError. `scarce` asks for tenants with little left, too."""

    def close(self) -> None:
        """Let go of connections."""


class RedisQuotas:
    """One server, or several that act as one; connected when it is first used."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.where = redacted(url)
        self._connected: tuple[Any, str] | None = None

    def __repr__(self) -> str:
        return f"<RedisQuotas {self.where}>"

    def exchange(self, machine: str, sequence: int, tenants: Sequence[TenantCharged], *, scarce: bool) -> Heard:
        """Tell what a machine has charged, in one script."""
        if self._connected is None:
            self._connected = connect(self._url)
        client, prefix = self._connected
        from redis.exceptions import RedisError  # noqa: PLC0415 - is loaded by now

        most = SCARCE_AT_ONCE if scarce else 0
        limits = _LATE * 1000, _MEMBER_SECONDS * 1000, _ROW_SECONDS
        try:
            members, answers = client.eval(
                _EXCHANGE, 1, f"{{{prefix}}}", machine, sequence, len(tenants), most, *limits, *_told(tenants)
            )
            return Heard(int(members), tuple(_heard(answers)))
        except (RedisError, OSError, ValueError) as error:
            raise StateError(f"{self.where} does not exchange quotas ({error})") from None

    def close(self) -> None:
        """Close the connections."""
        if self._connected is not None:
            self._connected[0].close()


def _told(tenants: Sequence[TenantCharged]) -> Iterator[str]:
    for tenant in tenants:
        yield tenant.name
        yield tenant.since
        for bucket in (tenant.requests, tenant.tokens):
            yield repr(60_000 / bucket.size if bucket.size else 0.0)
            yield repr(bucket.total)
            yield repr(bucket.heard)
            yield repr(bucket.full_in * 1000)


def _heard(answers: Sequence[str]) -> Iterator[TenantHeard]:
    for at in range(0, len(answers), 6):
        name, since, requests, of_requests, tokens, of_tokens = answers[at : at + 6]
        yield TenantHeard(
            name,
            since,
            float(requests) / 1000,
            float(of_requests) if of_requests else None,
            float(tokens) / 1000,
            float(of_tokens) if of_tokens else None,
        )
