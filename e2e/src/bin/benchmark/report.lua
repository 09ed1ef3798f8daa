-- Ends a run of wrk with one line that a program can read: requests, bytes, microseconds, failures.
function done(summary)
  local errors = summary.errors
  print(string.format("MEASURED %d %d %d %d", summary.requests, summary.bytes, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
