-- Writes all keys once, each thread its share, then goes on overwriting.
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end
local nth, keys = 0, 0
function init(args)
  keys = tonumber(args[1])
  nth = id
end
function request()
  local key = nth % keys
  nth = nth + 2
  local headers = { ["Content-Type"] = "text/plain; charset=utf-8" }
  return wrk.format("POST", "/bucket/key" .. key, headers, ("0123456789"):rep(10))
end
