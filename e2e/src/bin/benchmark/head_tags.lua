-- HEAD of one of 10^4 tags after the other, in an order that no cache of a few can follow.
dofile("e2e/src/bin/benchmark/report.lua")
local next_tag = 0
function request()
  next_tag = (next_tag + 7919) % 10000
  return wrk.format("HEAD", "/v2/bench/manifests/t" .. next_tag)
end
