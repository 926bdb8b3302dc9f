-- Meters in Redis: what memory.py does in a process, in the same steps and the same arithmetic.
--
-- KEYS: for each meter a hash (level, at, held) and a sorted set of leases, scored by when they end by themselves;
--       then the mark of the lease: "it was given up".
-- ARGV: `take`, `settle`, `remember` or `renew`, the time in seconds ('' is this server's), the lease's id, then
--       settle: '1' if nobody knows whether it was taken at all, else '0'
--       and for each meter: limit, period, seconds to keep, settles, forfeits, charge, hold, how long
--       its lease lasts, and to settle and remember: used, taken at.
-- Returns whether it was taken, the time, and for each meter what is left and how long to wait. Numbers are text,
-- because Redis cuts the fractions of numbers off.

local SLACK = 1e-6
local doing, id, unknown = ARGV[1], ARGV[3], ARGV[4] == '1'
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local fields = (doing == 'take' or doing == 'renew') and 8 or 10
local meters = (#ARGV - 4) / fields
local mark = KEYS[#KEYS]

local function text(number)
  return string.format('%.17g', number)
end

local function load(index)
  local from = 4 + (index - 1) * fields
  local meter = {
    key = KEYS[2 * index - 1], leases = KEYS[2 * index],
    limit = tonumber(ARGV[from + 1]), period = tonumber(ARGV[from + 2]),
    keeps = tonumber(ARGV[from + 3]), settles = ARGV[from + 4] == '1', forfeits = ARGV[from + 5] == '1',
    charge = tonumber(ARGV[from + 6]), hold = tonumber(ARGV[from + 7]),
    lasts = tonumber(ARGV[from + 8]), used = tonumber(ARGV[from + 9]), taken_at = tonumber(ARGV[from + 10]),
  }
  local row = redis.call('HMGET', meter.key, 'level', 'at', 'held')
  meter.level = tonumber(row[1] or '0')
  meter.at = tonumber(row[2] or text(now))
  meter.held = tonumber(row[3] or '0')
  if now > meter.at and meter.period > 0 then
    meter.level = math.max(0, meter.level - (now - meter.at) * meter.limit / meter.period)
  end
  meter.at = now -- also after a clock was put back: it drains from there on
  if meter.settles then
    local over = redis.call('ZRANGEBYSCORE', meter.leases, '-inf', text(now))
    for _, lease in ipairs(over) do
      local hold = tonumber(string.match(lease, '^%d+'))
      meter.held = meter.held - hold
      if meter.forfeits then meter.level = meter.level + hold end
    end
    if #over > 0 then redis.call('ZREMRANGEBYSCORE', meter.leases, '-inf', text(now)) end
  end
  return meter
end

local function save(meter, lasts)
  redis.call('HSET', meter.key, 'level', text(meter.level), 'at', text(meter.at), 'held', text(meter.held))
  local before = redis.call('PTTL', meter.key)
  local drains = meter.period > 0 and meter.level * meter.period / meter.limit or meter.keeps
  local life = math.ceil((drains + lasts + 60) * 1000)
  if before < life then
    redis.call('PEXPIRE', meter.key, life)
    if meter.settles then redis.call('PEXPIRE', meter.leases, life) end
  end
end

local answer = {1, text(now)}
if doing == 'take' then
  if redis.call('EXISTS', mark) == 1 then return {0, text(now)} end
  local all = {}
  for index = 1, meters do
    local meter = load(index)
    meter.lack = meter.level + meter.held + meter.charge + meter.hold - meter.limit
    if meter.lack > SLACK then answer[1] = 0 else meter.lack = 0 end
    all[index] = meter
  end
  for _, meter in ipairs(all) do
    if answer[1] == 1 then
      meter.level = meter.level + meter.charge
      if meter.settles then
        meter.held = meter.held + meter.hold
        redis.call('ZADD', meter.leases, text(now + meter.lasts), meter.hold .. ':' .. id)
      end
    end
    save(meter, meter.lasts)
    local wait = 0
    if meter.lack > 0 then
      wait = (meter.period > 0 and meter.lack <= meter.level + SLACK) and meter.lack * meter.period / meter.limit or -1
    end
    answer[#answer + 1] = text(math.max(0, meter.limit - meter.level - meter.held))
    answer[#answer + 1] = text(wait)
  end
  return answer
end

if doing == 'renew' then
  for index = 1, meters do
    local meter = load(index)
    redis.call('ZADD', meter.leases, 'XX', text(now + meter.lasts), meter.hold .. ':' .. id)
    save(meter, meter.lasts)
  end
  return answer
end

if doing == 'remember' then
  for index = 1, meters do
    local meter = load(index)
    meter.level = math.max(meter.level, meter.used)
    save(meter, 0)
  end
  return answer
end

local found = false
for index = 1, meters do
  local meter = load(index)
  if redis.call('ZREM', meter.leases, meter.hold .. ':' .. id) == 1 then
    found = true
    meter.held = meter.held - meter.hold
    local more = meter.used - meter.charge
    if more < 0 then
      local time = math.max(0, now - meter.taken_at)
      local drained = meter.period > 0 and time * meter.limit / meter.period or 0
      more = -math.max(0, -more - drained)
    end
    meter.level = math.max(0, meter.level + more)
  end
  save(meter, 0)
end
if not found and unknown then redis.call('SET', mark, '1', 'EX', 60) end
return answer
