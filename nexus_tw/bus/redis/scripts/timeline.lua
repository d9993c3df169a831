-- KEYS[1] names the timeline of this Redis, ARGV[1] that of the link, ARGV[2] is the prefix of the realm's keys.
local call, try = redis.call, redis.pcall
local timeline, prefix = ARGV[1], ARGV[2]
