-- Sets a hundred random keys in one request; requests are made beforehand.
local requests = {}
function init(args)
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"), 16) % 100000)
  local keys, value = tonumber(args[1]), ("0123456789"):rep(10)
  for nth = 0, 199 do
    local operations = {}
    for place = 1, 100 do
      local key = "key" .. math.random(0, keys - 1)
      operations[place] = '{"op":"set","key":"' .. key .. '","value":"' .. value .. '"}'
    end
    local body = '{"operations":[' .. table.concat(operations, ",") .. "]}"
    requests[nth] = wrk.format("POST", "/batch", { ["Content-Type"] = "application/json" }, body)
  end
end
function request()
  return requests[math.random(0, #requests)]
end
