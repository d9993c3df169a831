-- A node says that the others may bury it at once. KEYS: timeline, beats. ARGV: timeline, prefix, node, the beats of one that left.
if call('HGET', KEYS[2], ARGV[3]) then call('HSET', KEYS[2], ARGV[3], ARGV[4]) end
return {}
