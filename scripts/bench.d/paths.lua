-- Asks for a random path of those in a file, by GET, or by POST of a hundred bytes; requests are
-- made beforehand.
local requests = {}
function init(args)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 100000)
  local headers = { ["Content-Type"] = "text/plain; charset=utf-8" }
  local body = args[1] == "POST" and ("0123456789"):rep(10) or nil
  for path in io.lines(args[2]) do
    requests[#requests + 1] = wrk.format(args[1], path, headers, body)
  end
end
function request()
  return requests[math.random(#requests)]
end
