-- Adds to how long buckets take to fill, and returns how long each takes then, in milliseconds.
-- KEYS: the buckets. ARGV: for each what is added, then the most that it may take. A key lasts for as long as its bucket
-- takes to fill; after the clock of this server was set back it would last longer, so it is written again then.
local left_ms = {}
for i, key in ipairs(KEYS) do
  local added_ms, most_ms = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local lasts_ms = math.max(redis.call('PTTL', key), 0)
  left_ms[i] = math.min(lasts_ms + added_ms, most_ms)
  if added_ms > 0 or lasts_ms > most_ms then
    redis.call('SET', key, '', 'PX', string.format('%.0f', left_ms[i]))
  end
end
return left_ms
