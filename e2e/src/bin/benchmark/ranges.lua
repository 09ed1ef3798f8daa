-- Asks for the first GiB in parts of 16 MiB, one after the other, as parallel pulls do.
dofile("report.lua")
local part, parts, next_part = 16 * 1024 * 1024, 64, 0
function request()
  local start = next_part * part
  next_part = (next_part + 1) % parts
  return wrk.format("GET", nil, { ["Range"] = string.format("bytes=%d-%d", start, start + part - 1) })
end
