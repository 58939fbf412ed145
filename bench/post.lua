-- wrk: the same POST again and again. BENCH_BODY, BENCH_HEADERS (`name: value` lines); optional: BENCH_PAUSE_MS between
-- two requests of a connection, BENCH_COUNT to count statuses (it costs: then every answer is handed to Lua).
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  wrk.method = "POST"
  wrk.body = os.getenv("BENCH_BODY")
  for name, value in string.gmatch(os.getenv("BENCH_HEADERS"), "([^:\n]+): ([^\n]*)\n") do
    wrk.headers[name] = value
  end
  statuses = {}
end

local pause = tonumber(os.getenv("BENCH_PAUSE_MS") or "0")
if pause > 0 then
  function delay()
    return math.random(0, 2 * pause)
  end
end

if os.getenv("BENCH_COUNT") then
  function response(status, headers, body)
    local key = tostring(status)
    statuses[key] = (statuses[key] or 0) + 1
  end
end

function done(summary, latency, requests)
  local counts = {}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      counts[status] = (counts[status] or 0) + count
    end
  end
  local shown = {}
  for status, count in pairs(counts) do
    table.insert(shown, string.format('"%s": %d', status, count))
  end
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "bad": %d, "broken": %d, "p50": %.3f, "p99": %.3f, "statuses": {%s}}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, table.concat(shown, ", ")
  ))
end
