-- Meters in Redis: what memory.py does in a process, in the same steps and the same arithmetic.
--
-- KEYS: of each call, for each of its meters a hash (level, at, held) and a sorted set of leases, scored by when they
--       end by themselves; then the mark of the lease: "it was given up".
-- ARGV: the calls as MessagePack: `take`, `settle`, `remember` or `renew`, the time in seconds (nil: this server's), the
--       lease's id, to settle: whether nobody knows that it was taken at all, and when it was taken; and for each meter:
--       limit, period, seconds to keep, settles, forfeits, charge, hold, how long its lease lasts, and to settle and
--       remember: used.
-- Returns, as MessagePack, for each call whether it was taken, the time, and to take for each meter what is left and how
-- long to wait; then whether nothing was known of a meter that does not drain and forfeits, a budget.

local SLACK = 1e-6
local time = redis.call('TIME')
local here = tonumber(time[1]) + tonumber(time[2]) / 1000000
local now

local function text(number)
  return string.format('%.17g', number)
end

local function load(row, key)
  local meter = {
    key = KEYS[key], leases = KEYS[key + 1],
    limit = row[1], period = row[2], keeps = row[3], settles = row[4], forfeits = row[5],
    charge = row[6], hold = row[7], lasts = row[8], used = row[9],
  }
  local kept = redis.call('HMGET', meter.key, 'level', 'at', 'held')
  meter.level = tonumber(kept[1] or '0')
  meter.at = tonumber(kept[2] or text(now))
  meter.held = tonumber(kept[3] or '0')
  meter.new = not kept[2]
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

local function done(call, first)
  local doing, id, unknown, taken_at, rows = call[1], call[3], call[4], call[5], call[6]
  now = call[2] or here
  local mark = KEYS[first + 2 * #rows]
  local all = {}
  if doing == 'take' and redis.call('EXISTS', mark) == 1 then return {false, now, false} end
  for index, row in ipairs(rows) do
    all[index] = load(row, first + 2 * (index - 1))
  end

  if doing == 'take' then
    local answer, unknown_budget = {true, now}, false
    for _, meter in ipairs(all) do
      unknown_budget = unknown_budget or (meter.new and meter.period == 0 and meter.forfeits)
      meter.lack = meter.level + meter.held + meter.charge + meter.hold - meter.limit
      if meter.lack > SLACK then answer[1] = false else meter.lack = 0 end
    end
    for _, meter in ipairs(all) do
      if answer[1] then
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
      answer[#answer + 1] = math.max(0, meter.limit - meter.level - meter.held)
      answer[#answer + 1] = wait
    end
    answer[#answer + 1] = unknown_budget
    return answer
  end

  local found = false
  for _, meter in ipairs(all) do
    if doing == 'renew' then
      redis.call('ZADD', meter.leases, 'XX', text(now + meter.lasts), meter.hold .. ':' .. id)
    elseif doing == 'remember' then
      meter.level = math.max(meter.level, meter.used)
    elseif redis.call('ZREM', meter.leases, meter.hold .. ':' .. id) == 1 then
      found = true
      meter.held = meter.held - meter.hold
      local more = meter.used - meter.charge
      if more < 0 then
        local time = math.max(0, now - taken_at)
        local drained = meter.period > 0 and time * meter.limit / meter.period or 0
        more = -math.max(0, -more - drained)
      end
      meter.level = math.max(0, meter.level + more)
    end
    save(meter, doing == 'renew' and meter.lasts or 0)
  end
  if doing == 'settle' and unknown and not found then redis.call('SET', mark, '1', 'EX', 60) end
  return {true, now}
end

local answers, first = {}, 1
for _, call in ipairs(cmsgpack.unpack(ARGV[1])) do
  answers[#answers + 1] = done(call, first)
  first = first + 2 * #call[6] + 1
end
return cmsgpack.pack(answers)
