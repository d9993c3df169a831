-- A message of a node to itself. ARGV: timeline, prefix, channel, message.
return call('PUBLISH', ARGV[3], ARGV[4])
