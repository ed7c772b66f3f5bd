-- Undoes a take. KEYS: the buckets. ARGV: for each how much is given back, in microseconds of filling.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for i, key in ipairs(KEYS) do
  local full_at = tonumber(redis.call('GET', key) or now) - ARGV[i]
  if full_at > now then
    local lasts_ms = math.ceil((full_at - now) / 1000)
    redis.call('SET', key, string.format('%.0f', full_at), 'PX', string.format('%.0f', lasts_ms))
  else
    redis.call('DEL', key)
  end
end
