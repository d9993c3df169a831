-- KEYS: timeline. ARGV: timeline, prefix, node, most. Gives some agents of a node.
return call('SRANDMEMBER', prefix .. 'agents:at:' .. ARGV[3], ARGV[4])
