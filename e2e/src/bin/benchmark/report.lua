-- Ends a run of wrk with one line that a program can read: requests, bytes, microseconds, failures, the 99th percentile.
function done(summary, latency)
  local errors = summary.errors
  print(string.format("MEASURED %d %d %d %d %d", summary.requests, summary.bytes, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout, latency:percentile(99)))
end
