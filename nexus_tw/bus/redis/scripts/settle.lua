-- Strikes a node out of what its heir has to take over. KEYS: timeline, legacy. ARGV: timeline, prefix, node, heir.
if call('HGET', KEYS[2], ARGV[3]) == ARGV[4] then call('HDEL', KEYS[2], ARGV[3]) end
return {}
