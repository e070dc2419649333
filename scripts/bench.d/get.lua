-- Reads a random key of those that load.lua has written; requests are made beforehand.
local requests = {}
function init(args)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 100000)
  for nth = 0, tonumber(args[1]) - 1 do
    requests[nth] = wrk.format("GET", "/bucket/key" .. nth)
  end
end
function request()
  return requests[math.random(0, #requests)]
end
