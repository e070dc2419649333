-- Overwrites a random key with a hundred bytes, everywhere at once.
local requests = {}
function init(args)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 100000)
  local headers = { ["Content-Type"] = "text/plain; charset=utf-8" }
  for nth = 0, tonumber(args[1]) - 1 do
    local value = ("0123456789"):rep(10)
    requests[nth] = wrk.format("POST", "/canonicalbucket/key" .. nth, headers, value)
  end
end
function request()
  return requests[math.random(0, #requests)]
end
