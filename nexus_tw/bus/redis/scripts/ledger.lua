-- What a node writes into the ledger of commands in a turn of its reactor, and publishes of that.
-- KEYS: timeline; then the command of each operation; hash and list of `task.updated`
-- ARGV: timeline, prefix, birth, about channel, event channel, bounds (see publish.lua; '' without history); then the operations:
--   T, id, driver, former driver, age in ms, head, number of marks, then place and body of each: takes an open command
--   W, id, driver, how it ended or '', number of events, the events, number of marks, place and body of each
--   D, id, driver: drops an open command
--   F, id
-- Gives the time, then for each: T: '' if taken, '!' without room, else the command that is there. W: 'y', 'n' if it is another
-- driver's, '?' if there is none. D: ''. F: '' or the command.
-- After that: number and bytes of all, how many had to go, and what Redis refused to publish the events for, or ''.
--
-- A command is a hash. d: driver, h: head, t: when it was taken, f: how it ended; marks by place, each "MS BODY".
-- `commands:of:NODE` has the open ones that a node drives, `commands:ended` the others by the time of their end, `commands:sizes`
-- the bytes of each, and of all under ''.
--
-- Redis looks whether it has memory at the first write only, so that must be one that takes some: HSET.
local ended, sizes = prefix .. 'commands:ended', prefix .. 'commands:sizes'
local out, evicted, a = {now}, 0, 7
local events, told = {}, 0
-- Counted here, and written at the end: each call of Redis costs more than all that is said in Lua about a command.
local was = tonumber(call('HGET', sizes, '') or 0)
local count, sum = math.max(0, call('HLEN', sizes) - 1), was

local function forget(id)
  call('UNLINK', prefix .. 'command:{' .. id .. '}')
  call('ZREM', ended, id)
  local size = call('HGET', sizes, id)
  if size then
    sum, count = sum - size, count - 1
    call('HDEL', sizes, id)
  end
end

local function grow(id, bytes)
  sum = sum + bytes
  call('HINCRBY', sizes, id, bytes)
end

-- Whether there is room for so many more commands, of this size in all, once ended ones have gone.
local function room(more, size)
  while count + more > MAX_COMMANDS or sum + size > MAX_COMMAND_BYTES do
    local old = call('ZRANGE', ended, 0, 0)[1]
    if not old then return false end
    forget(old)
    evicted = evicted + 1
  end
  return true
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

local function write(key, words, from)
  for i = from or 1, #words, 1000 do call('HSET', key, unpack(words, i, math.min(i + 999, #words))) end
end

for k = 2, #KEYS - 2 do
  local key, kind, id = KEYS[k], ARGV[a], ARGV[a + 1]
  if kind == 'T' then
    local node, former, head = ARGV[a + 2], ARGV[a + 3], ARGV[a + 5]
    local words, size, next = marks(a + 6)
    local there = call('HMGET', key, 'd', 'f')
    if there[1] and (there[2] or (there[1] ~= node and there[1] ~= former)) then
      out[#out + 1] = call('HGETALL', key)
    else
      local began = string.format('%.0f', now - ARGV[a + 4])
      if there[1] then
        call('HSET', key, 'd', node)
        forget(id)
        call('ZREM', prefix .. 'commands:of:' .. there[1], id)
      end
      -- Before anything goes for it: without memory, nothing does.
      call('HSET', key, 'd', node, 'h', head, 't', began, unpack(words, 1, math.min(#words, 1000)))
      if room(1, size + #head) then
        write(key, words, 1001)
        grow(id, size + #head)
        count = count + 1
        call('ZADD', prefix .. 'commands:of:' .. node, began, id)
        out[#out + 1] = ''
      else
        call('UNLINK', key)
        out[#out + 1] = '!'
      end
    end
    a = next
  elseif kind == 'W' then
    local node, final = ARGV[a + 2], ARGV[a + 3]
    local last = a + 4 + ARGV[a + 4]
    local words, size, next = marks(last + 1)
    local there = call('HMGET', key, 'd', 'f')
    if not there[1] then
      out[#out + 1] = '?'
    elseif there[1] ~= node then
      out[#out + 1] = 'n'
    else
      -- One that has ended has got this before: only the answer was lost.
      if not there[2] then
        if final ~= '' then
          words[#words + 1] = 'f'
          words[#words + 1] = final
          size = size + #final
        end
        write(key, words)
        grow(id, size)
        for i = a + 5, last do
          events[#events + 1] = ARGV[i]
          told = told + #ARGV[i]
        end
        if final ~= '' then
          call('ZREM', prefix .. 'commands:of:' .. node, id)
          call('ZADD', ended, now, id)
        end
        room(0, 0)
      end
      out[#out + 1] = 'y'
    end
    a = next
  elseif kind == 'D' then
    local node = ARGV[a + 2]
    local there = call('HMGET', key, 'd', 'f')
    if there[1] == node and not there[2] then
      forget(id)
      call('ZREM', prefix .. 'commands:of:' .. node, id)
    end
    out[#out + 1] = ''
    a = a + 3
  else
    local there = call('HGETALL', key)
    out[#out + 1] = #there > 0 and there or ''
    a = a + 2
  end
end
for _, old in ipairs(call('ZRANGEBYSCORE', ended, '-inf', now - 86400000, 'LIMIT', 0, 64)) do forget(old) end
if sum ~= was then call('HINCRBY', sizes, '', sum - was) end
out[#out + 1] = count
out[#out + 1] = sum
out[#out + 1] = evicted
out[#out + 1] = tell(KEYS[#KEYS - 1], KEYS[#KEYS], events, told)
return out
