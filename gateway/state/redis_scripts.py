"""What runs inside Redis: each script is one step that nothing interrupts.

They are sent as text, since a fail-over forgets what `EVALSHA` names. Every key begins with the same hash tag, so that
a cluster keeps them on one node; the one key that a script is told is that prefix.

    PREFIX:store                     hash: epoch, version, token, leader, recovering, arrivals, restored,
                                     again (the version under which all that was restored is in the sums)
    PREFIX:lease                     "owner token", for as long as the lease lasts
    PREFIX:incarnations              hash: id -> "sequence milliseconds" of its last batch
    PREFIX:members                   sorted set: id -> milliseconds of its last batch
    PREFIX:flushes                   sorted set: "id sequence" of the batches of the last minute -> version
    PREFIX:heard                     hash: id -> sequence of its last batch that is in what was restored
    PREFIX:staged:ID                 list: "WIDTH:CHUNK good bad first last slot series", what a process will restore
    PREFIX:restoring                 the same, of the one that restores: what is not in the sums yet
    PREFIX:restorer                  id of the process that adds it to them, for as long as it goes on
    PREFIX:ended                     hash: id -> "sequence milliseconds" of when its rows were settled
    PREFIX:returned                  hash: id -> "version milliseconds" of those that came back to an emptied store,
                                     and "more" until they have written all that they had
    PREFIX:gaps                      hash: id -> number of the batch that came when one was missing that the process
                                     takes as saved, until it knows
    PREFIX:rows:WIDTH:CHUNK:ID       hash: "slot series" -> "good bad first last" that one process counted
    PREFIX:sums:WIDTH:CHUNK          the same, of all processes together
    PREFIX:changes                   sorted set: "CHUNK slot series" of the finest slots -> version of the last change;
                                     with a "=" before it, of any slot that came with a batch that tells `every` one
    PREFIX:findings                  sorted set: what a process found about a backend, in JSON -> version
    PREFIX:documents, :edits         hash: [kind, name] -> body; sorted set: [kind, name] -> version
    PREFIX:records, :ejections, :responses    sorted sets: what was saved, in JSON -> when
"""

_COMMON = """
local prefix = KEYS[1]
local store = prefix .. ':store'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
local function epoch_of(fresh)
  redis.call('HSETNX', store, 'epoch', fresh)
  return redis.call('HGET', store, 'epoch')
end
local function next_version(above)
  local version = math.max((tonumber(redis.call('HGET', store, 'version')) or 0) + 1, now, above + 1)
  redis.call('HSET', store, 'version', whole(version))
  return version
end
local ANY = '^(%S+) (%S+) (%S+) (%S+)$'
local function numbers(row)
  if not row then return 0, 0, nil, nil end
  local good, bad, first, last = string.match(row, ANY)
  return tonumber(good) or 0, tonumber(bad) or 0, tonumber(first), tonumber(last)
end
local function row_of(good, bad, first, last)
  return string.format('%.0f %.0f %.3f %.3f', good, bad, first or 0, last or 0)
end
local function add(chunk, field, good, bad, first, last)
  local sums = prefix .. ':sums:' .. chunk
  local had, missed, began, ended = numbers(redis.call('HGET', sums, field))
  first = began and math.min(began, first) or first
  last = ended and math.max(ended, last) or last
  redis.call('HSET', sums, field, row_of(had + good, missed + bad, first, last))
end
"""

SAVE = (
    _COMMON
    + """
local asked = cjson.decode(ARGV[1])
local fresh = asked.fresh
local epoch = epoch_of(fresh)
local id = asked.incarnation
local tomb = redis.call('HGET', prefix .. ':ended', id)
local known = tomb or redis.call('HGET', prefix .. ':incarnations', id)
local sequence = known and string.match(known, '^(%d+)') or '0'
local behind = false
local function answer(version, ended, others, totals, documents, findings, led, missed, flushed)
  return {
    epoch, behind and '0' or sequence, whole(version), ended, others or {}, totals or {}, documents or {},
    findings or {}, led and 1 or 0, missed and 1 or 0, flushed or {}
  }
end
if asked.epoch ~= '' and asked.epoch ~= epoch then return answer(0, 0) end
if tomb then return answer(0, 1) end
-- One that was held up on its way, and comes after a later one, must not undo it.
if asked.sequence > 0 and tonumber(sequence) >= asked.sequence then return answer(asked.seen, 0) end
if asked.returning ~= '' then
  local back = prefix .. ':returned'
  local came = redis.call('HGET', back, id)
  if redis.call('HEXISTS', store, 'restored') == 1 and (not came or string.find(came, 'more', 1, true)) then
    return answer(0, 1)
  end
  redis.call('HSET', back, id, whole(asked.seen) .. ' ' .. whole(now) .. (asked.more and ' more' or ''))
  if not came or asked.counts > 0 then redis.call('HINCRBY', store, 'arrivals', 1) end
end
-- The answer that tells of a gap may get lost, too: it is told until the process takes it that this batch is saved.
local gap = redis.call('HGET', prefix .. ':gaps', id)
if tonumber(sequence) < asked.acknowledged then
  redis.call('HSET', prefix .. ':gaps', id, whole(asked.sequence))
elseif gap and asked.acknowledged >= tonumber(gap) then
  redis.call('HDEL', prefix .. ':gaps', id)
elseif gap then
  behind = true
end
-- A server that took over may be behind what this process has seen.
local version = next_version(asked.seen)
redis.call('HSET', prefix .. ':incarnations', id, whole(math.max(asked.sequence, sequence)) .. ' ' .. whole(now))
redis.call('ZADD', prefix .. ':members', whole(now), id)
redis.call('PEXPIRE', prefix .. ':members', asked.remembered)
local at = 2
local touched = {}
for _ = 1, asked.counts do
  local chunk, field, row, shared = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local rows = prefix .. ':rows:' .. chunk .. ':' .. id
  local before = redis.call('HGET', rows, field)
  if before ~= row then
    local had, missed = numbers(before)
    local good, bad, first, last = numbers(row)
    redis.call('HSET', rows, field, row)
    add(chunk, field, good - had, bad - missed, first, last)
    if shared == '1' then
      redis.call('ZADD', prefix .. ':changes', whole(version), (asked.every and '=' or '') .. chunk .. ' ' .. field)
    end
    touched[chunk] = true
  end
end
for chunk in pairs(touched) do
  local seconds = asked.lasts[string.match(chunk, '^(%d+)')]
  redis.call('EXPIRE', prefix .. ':rows:' .. chunk .. ':' .. id, seconds)
  redis.call('EXPIRE', prefix .. ':sums:' .. chunk, seconds)
end
local leads = redis.call('GET', prefix .. ':lease') == id .. ' ' .. whole(asked.token)
local function is_free(name)
  for _, begins in ipairs(asked.free) do
    if string.sub(name, 1, #begins) == begins then return true end
  end
  return false
end
for _ = 1, asked.documents do
  if leads or is_free(ARGV[at]) then
    redis.call('HSET', prefix .. ':documents', ARGV[at], ARGV[at + 1])
    redis.call('ZADD', prefix .. ':edits', whole(version), ARGV[at])
  end
  at = at + 2
end
for _ = 1, asked.listed do
  redis.call('ZADD', prefix .. ':' .. ARGV[at], ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end
local findings = prefix .. ':findings'
for _ = 1, asked.findings do
  redis.call('ZADD', findings, whole(version), ARGV[at])
  redis.call('PEXPIRE', findings, asked.remembered)
  at = at + 1
end
redis.call('ZREMRANGEBYSCORE', findings, '-inf', whole(now - asked.remembered))
redis.call('ZREMRANGEBYSCORE', prefix .. ':changes', '-inf', whole(now - asked.remembered))
local again_at = tonumber(redis.call('HGET', store, 'again')) or 0
local missed = asked.seen > 0 and asked.seen < math.max(now - asked.remembered, again_at)
local others, totals = {}, {}
local since = '(' .. whole(asked.seen)
-- One that reads all counts anyway is not told which have changed: these may be many.
local unread = asked.unread or missed
for _, member in ipairs(unread and {} or redis.call('ZRANGEBYSCORE', prefix .. ':changes', since, '+inf')) do
  local every, chunk, field = string.match(member, '^(=?)(%S+) (.*)$')
  local good, bad, first, last = numbers(redis.call('HGET', prefix .. ':sums:' .. chunk, field))
  local had, missed = numbers(redis.call('HGET', prefix .. ':rows:' .. chunk .. ':' .. id, field))
  if good + bad > had + missed then
    local list = every == '' and others or totals
    if list == totals then totals[#totals + 1] = string.match(chunk, '^%d+') end
    list[#list + 1] = field
    list[#list + 1] = row_of(good - had, bad - missed, first, last)
  end
end
local documents = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', prefix .. ':edits', since, '+inf')) do
  if not leads or is_free(name) then
    documents[#documents + 1] = name
    documents[#documents + 1] = redis.call('HGET', prefix .. ':documents', name)
  end
end
-- The version is the server's time, so that what one was written under tells how long ago that was.
local found = redis.call('ZRANGEBYSCORE', findings, since, '+inf', 'WITHSCORES')
for index = 2, #found, 2 do found[index] = whole(math.max(0, version - found[index])) end
local flushes = prefix .. ':flushes'
local flushed = redis.call('ZRANGEBYSCORE', flushes, since, '+inf')
redis.call('ZREMRANGEBYSCORE', flushes, '-inf', whole(now - 60000))
redis.call('ZADD', flushes, whole(version), id .. ' ' .. whole(asked.sequence))
redis.call('PEXPIRE', flushes, asked.remembered)
return answer(version, 0, others, totals, documents, found, leads, missed, flushed)
"""
)
"""One batch: what it counted goes into its own rows, and the difference into the sums."""

BEGIN = _COMMON + "return {epoch_of(ARGV[1]), whole(now)}"
"""Make the store if there is none; its epoch, and a version below all that is read after."""

LEAD = (
    _COMMON
    + """
local owner = ARGV[1]
local holder, token = string.match(redis.call('GET', prefix .. ':lease') or '', '^(%S+) (%S+)$')
if holder and holder ~= owner then return 0 end
if not holder then
  holder, token = string.match(redis.call('HGET', store, 'leader') or '', '^(%S+) (%S+)$')
  if holder ~= owner then token = whole(redis.call('HINCRBY', store, 'token', 1)) end
  redis.call('HSET', store, 'leader', owner .. ' ' .. token)
end
redis.call('SET', prefix .. ':lease', owner .. ' ' .. token, 'PX', ARGV[2])
return tonumber(token)
"""
)

RESIGN = (
    _COMMON
    + """
local holder = string.match(redis.call('GET', prefix .. ':lease') or '', '^(%S+) (%S+)$')
if holder == ARGV[1] then
  redis.call('DEL', prefix .. ':lease')
  redis.call('HDEL', store, 'leader')
end
return 0
"""
)

MEMBERS = (
    _COMMON
    + """
local members, since = prefix .. ':members', whole(now - ARGV[1])
redis.call('ZREMRANGEBYSCORE', members, '-inf', '(' .. since)
local latest = redis.call('ZREVRANGE', members, 0, ARGV[2] - 1, 'WITHSCORES')
for index = 2, #latest, 2 do latest[index] = whole(now - latest[index]) end
local leader = string.match(redis.call('GET', prefix .. ':lease') or '', '^(%S+) %S+$')
return {redis.call('ZCARD', members), leader or '', latest}
"""
)
"""The processes that are alive. Those that are silent are forgotten here, and not where they have rows."""

SETTLE = (
    _COMMON
    + """
if redis.call('GET', prefix .. ':lease') ~= ARGV[1] .. ' ' .. ARGV[2] then return 0 end
local settled = 0
local every = redis.call('HGETALL', prefix .. ':incarnations')
for index = 1, #every, 2 do
  local id = every[index]
  local sequence, at = string.match(every[index + 1], '^(%d+) (%d+)$')
  if settled < 100 and id ~= ARGV[1] and now - at > tonumber(ARGV[3]) then
    for each = 6, #ARGV do redis.call('UNLINK', prefix .. ':rows:' .. ARGV[each] .. ':' .. id) end
    redis.call('HDEL', prefix .. ':incarnations', id)
    redis.call('HDEL', prefix .. ':gaps', id)
    redis.call('HSET', prefix .. ':ended', id, sequence .. ' ' .. whole(now))
    settled = settled + 1
  end
end
local old = redis.call('HGETALL', prefix .. ':ended')
for index = 1, #old, 2 do
  local at = string.match(old[index + 1], '%d+$')
  if now - at > tonumber(ARGV[4]) then redis.call('HDEL', prefix .. ':ended', old[index]) end
end
local lists = cjson.decode(ARGV[5])
for name, each in pairs(lists) do
  local key = prefix .. ':' .. name
  redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now / 1000 - each[1]))
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - each[2])
end
return settled
"""
)
"""Rows of silent processes go: the sums have them already. A tombstone tells them to take another id."""

RECOVERY = (
    _COMMON
    + """
local id, back, seconds = ARGV[1], prefix .. ':returned', tonumber(ARGV[2])
local came = redis.call('HGET', back, id)
if redis.call('HEXISTS', store, 'restored') == 1 then
  if not came then return 'late' end
  return redis.call('HEXISTS', store, 'again') == 1 and 'done' or 'merge'
end
if not came then return 'wait' end
redis.call('HSETNX', store, 'recovering', whole(now))
redis.call('HSET', back, id, string.match(came, '^%d+') .. ' ' .. whole(now))
if now - redis.call('HGET', store, 'recovering') < seconds then return 'wait' end
local best, most = '', -1
local every = redis.call('HGETALL', back)
for index = 1, #every, 2 do
  local version, at, more = string.match(every[index + 1], '^(%d+) (%d+)(.*)$')
  version = tonumber(version)
  if now - at <= seconds then
    if more ~= '' then return 'wait' end
    if version > most or (version == most and every[index] < best) then best, most = every[index], version end
  end
end
return best == id and 'restore' or 'wait'
"""
)

RESTORE = (
    _COMMON
    + """
local id, asked, staged = ARGV[1], cjson.decode(ARGV[2]), prefix .. ':staged:' .. ARGV[1]
if (redis.call('HGET', store, 'arrivals') or '0') ~= asked.arrivals then return 0 end
if redis.call('LLEN', staged) ~= asked.rows then return 0 end
if redis.call('HSETNX', store, 'restored', id) == 0 then return 0 end
for each, sequence in pairs(asked.heard) do redis.call('HSET', prefix .. ':heard', each, whole(sequence)) end
redis.call('EXPIRE', prefix .. ':heard', 86400)
if asked.rows > 0 then
  redis.call('RENAME', staged, prefix .. ':restoring')
  redis.call('PERSIST', prefix .. ':restoring')
end
return 1
"""
)
"""Take what a process has staged as what ended processes had, once and as a whole."""

MERGE = (
    _COMMON
    + """
local asked, rows = cjson.decode(ARGV[2]), prefix .. ':restoring'
if redis.call('HEXISTS', store, 'restored') == 0 or redis.call('HEXISTS', store, 'again') == 1 then return 0 end
local restorer = redis.call('GET', prefix .. ':restorer')
if restorer and restorer ~= ARGV[1] then return -1 end
local touched = {}
for _, each in ipairs(redis.call('LPOP', rows, asked.most) or {}) do
  local chunk, row, field = string.match(each, '^(%S+) (%S+ %S+ %S+ %S+) (.*)$')
  add(chunk, field, numbers(row))
  touched[chunk] = true
end
for chunk in pairs(touched) do
  redis.call('EXPIRE', prefix .. ':sums:' .. chunk, asked.lasts[string.match(chunk, '^(%d+)')])
end
local left = redis.call('LLEN', rows)
if left > 0 then
  redis.call('SET', prefix .. ':restorer', ARGV[1], 'PX', 5000)
else
  redis.call('DEL', prefix .. ':restorer')
  redis.call('HSET', store, 'again', whole(next_version(0)))
end
return left
"""
)
"""Add a part of what is restored to the sums; return how much is left, -1 where another process does that."""
