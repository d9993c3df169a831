-- The timeline of this Redis. The first link to a process names it anew: what came before may have lost its end.
-- Also tries all that the other scripts do, so that a user who lacks a right is known before the first event. It begins with a
-- write that takes no memory, after which Redis does not look whether it has any: a timeline is named in any case.
-- KEYS: timeline, run, a key to try with. ARGV: run id of the process, a fresh name, prefix.
local call = redis.call
local known, try, types = call('GET', KEYS[1]), KEYS[3], ARGV[3] .. 'types'
call('UNLINK', try)
call('HSET', try, 'a', 1)
call('HINCRBY', try, 'a', 1)
call('HGET', try, 'a')
call('HMGET', try, 'a')
call('HGETALL', try)
call('HLEN', try)
call('HDEL', try, 'a')
call('RPUSH', try, 1)
call('LRANGE', try, 0, 0)
call('LLEN', try)
call('LTRIM', try, 0, 0)
call('PEXPIRE', try, 1000)
call('EXISTS', try)
call('UNLINK', try)
call('SADD', try, 'a')
call('SCARD', try)
call('SRANDMEMBER', try, 1)
call('SREM', try, 'a')
call('ZADD', try, 1, 'a')
call('ZSCORE', try, 'a')
call('ZCARD', try)
call('ZRANGE', try, 0, 0)
call('ZRANGEBYSCORE', try, 1, 1)
call('ZSCAN', try, 0)
call('ZREM', try, 'a')
call('TIME')
if not known or call('GET', KEYS[2]) ~= ARGV[1] then
  known = ARGV[2]
  call('SET', KEYS[1], known)
  call('SET', KEYS[2], ARGV[1])
  -- The index of types is whole as long as this mark is in it.
  call('ZREMRANGEBYSCORE', types, 'inf', 'inf')
  call('ZADD', types, 'inf', '\1' .. known)
end
return known
