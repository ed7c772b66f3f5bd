-- Adds to how long buckets take to fill, and returns how long each takes then, in milliseconds.
-- KEYS: the buckets. ARGV: what is added to each. A key lasts for as long as its bucket takes to fill.
local left_ms = {}
for i, key in ipairs(KEYS) do
  local added_ms = tonumber(ARGV[i])
  left_ms[i] = math.max(redis.call('PTTL', key), 0) + added_ms
  if added_ms > 0 then
    redis.call('SET', key, '', 'PX', string.format('%.0f', left_ms[i]))
  end
end
return left_ms
