-- What a node writes into the ledger of commands in a turn of its reactor, and publishes of that.
-- KEYS: timeline; then the command of each operation; hash and list of `task.updated`
-- ARGV: timeline, prefix, birth, about channel, event channel, bounds (see publish.lua; '' without history), bounds of the ledger:
--   "COMMANDS BYTES" of all and "COMMANDS BYTES" of one account; then the operations:
--   T, id, driver, former driver ('' for a new command), account, age in ms, head, events, marks
--   W, id, driver, how it ended or '', how many of its events the driver knows to be told, events, marks
--   D, id, driver: drops an open command
--   F, id
-- Events are their number, then each; marks are their number, then place and body of each.
-- Gives the time, then for each: T: '' if taken; without room '!' and the bound: c or b of the account, C or B of all; '-' if the
-- driver was buried; else the command that is there. W: 'y', 'n' if it is another driver's, '?' if there is none. D: ''. F: '' or the
-- command.
-- After that: number and bytes of all, how many had to go, and what Redis refused to publish the events for, or ''.
--
-- A command is a hash. d: driver, a: account, h: head, t: when it was taken, s: bytes written, f: how it ended, e: how many events of
-- it were told while it was open; marks by place, each "MS BODY". `commands:of:NODE` has the open ones that a node drives; `commands:ended` the others by the time of their end, and
-- `commands:ended:ACCOUNT` those of an account. `commands:taken` has "COMMANDS BYTES" of all under '', of each account under ':ACCOUNT'.
--
-- Redis looks whether it has memory at the first write only, so that must be one that takes some: HSET.
local ended, counts = prefix .. 'commands:ended', prefix .. 'commands:taken'
local out, evicted, a = {now}, 0, 8
local events = {}
local most = {}
for word in string.gmatch(ARGV[7], '%d+') do most[#most + 1] = word + 0 end

-- Counted here, and written at the end: each call of Redis costs more than all that is said in Lua about a command.
local known, dead = {}, {}

local function taken(field)
  local there = known[field]
  if not there then
    local commands, bytes = string.match(call('HGET', counts, field) or '', '^(%d+) (%d+)$')
    there = {commands = tonumber(commands or 0), bytes = tonumber(bytes or 0)}
    known[field] = there
  end
  return there
end

local all = taken('')

local function count(account, commands, bytes)
  local own = taken(':' .. account)
  for _, each in ipairs({all, own}) do
    each.commands, each.bytes, each.changed = math.max(0, each.commands + commands), math.max(0, each.bytes + bytes), true
  end
end

-- Forgets an ended command.
local function forget(id)
  local key = prefix .. 'command:{' .. id .. '}'
  local there = call('HMGET', key, 'a', 's')
  local account = there[1] or ''
  call('UNLINK', key)
  call('ZREM', ended, id)
  call('ZREM', ended .. ':' .. account, id)
  count(account, -1, -(there[2] or 0))
end

-- Whether a command ended a day ago: it is forgotten, though perhaps not yet gone.
local function past(id)
  local at = call('ZSCORE', ended, id)
  return at and at + 0 <= now - DAY
end

-- Forgets the oldest ended commands, as far as necessary for so many more commands of an account, of this size. Gives the bound that
-- leaves no room for them even so.
local function lacks(account, more, size)
  local own = taken(':' .. account)
  while true do
    local lack, from = nil, ended
    if own.commands + more > most[3] then lack = 'c'
    elseif own.bytes + size > most[4] then lack = 'b'
    elseif all.commands + more > most[1] then lack = 'C'
    elseif all.bytes + size > most[2] then lack = 'B'
    else return nil end
    if lack == 'c' or lack == 'b' then from = ended .. ':' .. account end
    local old = call('ZRANGE', from, 0, 0)[1]
    if not old then return lack end
    if not past(old) then evicted = evicted + 1 end
    forget(old)
  end
end

local function buried(node)
  if dead[node] == nil then dead[node] = call('ZSCORE', prefix .. 'fleet:buried', node) end
  return dead[node]
end

-- The marks of an operation, from its count on: words for HSET, and their bytes.
local function marks(at)
  local words, size = {}, 0
  for i = at + 1, at + 2 * ARGV[at], 2 do
    words[#words + 1] = ARGV[i]
    words[#words + 1] = now .. ' ' .. ARGV[i + 1]
    size = size + #ARGV[i + 1]
  end
  return words, size, at + 1 + 2 * ARGV[at]
end

-- Tells the events of an operation, from their number on, without the first `skip`.
local function say(at, skip)
  for i = at + 1 + math.max(0, skip), at + ARGV[at] do events[#events + 1] = ARGV[i] end
end

local function write(key, words, from)
  for i = from or 1, #words, 1000 do call('HSET', key, unpack(words, i, math.min(i + 999, #words))) end
end

for k = 2, #KEYS - 2 do
  local key, kind, id = KEYS[k], ARGV[a], ARGV[a + 1]
  if kind == 'T' then
    local node, former, account, head = ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 6]
    local words, size, next = marks(a + 8 + ARGV[a + 7])
    local there = call('HMGET', key, 'd', 'f', 'a', 's', 'e')
    local driver = there[1]
    local again = driver and not there[2]
    if driver and not again and past(id) then driver = nil end
    if driver and not (again and former ~= '' and (driver == node or driver == former)) then
      out[#out + 1] = call('HGETALL', key)
    elseif buried(node) then
      out[#out + 1] = '-'
    else
      local began = string.format('%.0f', now - ARGV[a + 5])
      -- A driver that takes its own again, under another name or not, counts on.
      local e = (again and there[5] or 0) + ARGV[a + 7]
      if e > 0 then
        words[#words + 1] = 'e'
        words[#words + 1] = e
      end
      if there[1] then call('HSET', key, 'd', node) end
      if again then
        call('UNLINK', key)
        call('ZREM', prefix .. 'commands:of:' .. driver, id)
        count(there[3] or '', -1, -(there[4] or 0))
      elseif there[1] then
        forget(id)
      end
      size = size + #head
      -- Before anything goes for it: without memory, nothing does.
      call('HSET', key, 'd', node, 'a', account, 'h', head, 't', began, 's', size, unpack(words, 1, math.min(#words, 1000)))
      local lack = not again and lacks(account, 1, size)
      if lack then
        call('UNLINK', key)
        out[#out + 1] = '!' .. lack
      else
        write(key, words, 1001)
        count(account, 1, size)
        call('ZADD', prefix .. 'commands:of:' .. node, began, id)
        say(a + 7, 0)
        out[#out + 1] = ''
      end
    end
    a = next
  elseif kind == 'W' then
    local node, final, n = ARGV[a + 2], ARGV[a + 3], ARGV[a + 5] + 0
    local words, size, next = marks(a + 6 + n)
    local there = call('HMGET', key, 'd', 'f', 'a', 's', 'e')
    if not there[1] or (there[2] and past(id)) then
      out[#out + 1] = '?'
    elseif there[1] ~= node then
      out[#out + 1] = 'n'
    else
      -- One that has ended has got this before: only the answer was lost.
      if not there[2] then
        local account = there[3] or ''
        -- Some may have been told by a write of which the answer was lost.
        local before = ARGV[a + 4] + 0
        local skip = (there[5] or before) - before
        if final == '' and n > math.max(0, skip) then
          words[#words + 1] = 'e'
          words[#words + 1] = before + n
        end
        if final ~= '' then
          words[#words + 1] = 'f'
          words[#words + 1] = final
          size = size + #final
        end
        words[#words + 1] = 's'
        words[#words + 1] = size + (there[4] or 0)
        write(key, words)
        count(account, 0, size)
        say(a + 5, skip)
        if final ~= '' then
          call('ZREM', prefix .. 'commands:of:' .. node, id)
          call('ZADD', ended, now, id)
          call('ZADD', ended .. ':' .. account, now, id)
        end
        lacks(account, 0, 0)
      end
      out[#out + 1] = 'y'
    end
    a = next
  elseif kind == 'D' then
    local node = ARGV[a + 2]
    local there = call('HMGET', key, 'd', 'f', 'a', 's')
    if there[1] == node and not there[2] then
      call('UNLINK', key)
      call('ZREM', prefix .. 'commands:of:' .. node, id)
      count(there[3] or '', -1, -(there[4] or 0))
    end
    out[#out + 1] = ''
    a = a + 3
  else
    local there = call('HGETALL', key)
    out[#out + 1] = #there > 0 and not past(id) and there or ''
    a = a + 2
  end
end
for _, old in ipairs(call('ZRANGEBYSCORE', ended, '-inf', now - DAY, 'LIMIT', 0, 64)) do forget(old) end
local words = {}
for field, each in pairs(known) do
  if each.changed and (field == '' or each.commands > 0) then
    words[#words + 1] = field
    words[#words + 1] = string.format('%.0f %.0f', each.commands, each.bytes)
  elseif each.changed then
    call('HDEL', counts, field)
  end
end
if #words > 0 then call('HSET', counts, unpack(words)) end
out[#out + 1] = all.commands
out[#out + 1] = all.bytes
out[#out + 1] = evicted
out[#out + 1] = tell(KEYS[#KEYS - 1], KEYS[#KEYS], events)
return out
