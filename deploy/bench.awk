# The lines of a bench as a table: ours, the peer's, the ratio, the target and whether it is met.
# A ratio is the median of the ratios of the rounds. Rows without figures are left out.

/^BENCH / {
  split("", value)
  for (i = 2; i <= NF; i++) { at = index($i, "="); value[substr($i, 1, at - 1)] = substr($i, at + 1) }
  round = value["round"]
  if (round > rounds) rounds = round
  for (name in value) seen[value["section"], value["case"], name, value["side"], round] = value[name]
}

END {
  if (!rounds) exit
  printf "\n%-46s %10s %10s %7s %9s %6s  %s\n", "", "ours", "peer", "ratio", "target", "aim", "verdict"
  title("three tiers over HTTPS (the peer: over HTTP)")
  for (i = 1; i <= split("1000 2000 3000 hot", cases, " "); i++) {
    name = cases[i] == "hot" ? "2000/s on one account" : cases[i] "/s"
    limited = cases[i] == 1000 || cases[i] == 2000
    ratio("CPU a decision, " name ", us", "tiers", cases[i], "cpu_us", "<=", limited ? 0.5 : "", limited ? 0.33 : "")
  }
  ratio("p99, 1000/s, ms", "tiers", 1000, "p99_ms", "<=")
  ratio("p99, 2000/s, ms", "tiers", 2000, "p99_ms", "<=", 0.8, 0.5)
  ratio("p99, 3000/s, ms", "tiers", 3000, "p99_ms", "<=")
  ratio("p99, 2000/s on one account, ms", "tiers", "hot", "p99_ms", "<=")
  ratio("sustainable: p99 < 50 ms, no stand-ins, /s", "tiers", "sustainable", "rate", ">=", 2, 3)
  count("stand-ins, 1000/s", "tiers", 1000, "stand_ins")
  count("stand-ins, 2000/s", "tiers", 2000, "stand_ins")
  count("stand-ins, 2000/s on one account", "tiers", "hot", "stand_ins")
  count("requests without a decision, all rates", "tiers", "sustainable", "failed")
  count("decisions without their line in the ledger", "tiers", "books", "unmoved")
  split("mib backstop_mib backstop-proxy_mib backstop-api_mib backstop-core_mib postgres_mib nginx_mib node_mib", names, " ")
  for (i = 1; i in names; i++) {
    name = names[i] == "mib" ? "all processes" : substr(names[i], 1, length(names[i]) - 4)
    ratio("memory, " name ", MiB", "tiers", "memory", names[i], "<=")
  }
  title("the edge alone (nginx+Lua)")
  ratio("CPU a request, TLS, us", "edge", "tls", "cpu_us", "<=", 0.8, 0.7)
  ratio("CPU a request, plain HTTP, us", "edge", "plain", "cpu_us", "<=", "", 0.8)
  count("requests that failed, TLS", "edge", "tls", "failed")
  count("requests that failed, plain HTTP", "edge", "plain", "failed")
  title("core's store on PostgreSQL (pgbench, best single)")
  ratio("decisions a second", "engine", "uniq", "per_s", ">=", 3, 4)
  ratio("decisions a second, all on one row", "engine", "hot", "per_s", ">=", 12)
  ratio("CPU a decision, us", "engine", "uniq", "cpu_us", "<=")
  title("core's store on SQLite, FULL (one a transaction)")
  ratio("decisions a second", "sqlite", "full", "per_s", ">=", 6)
}

function title(text) { pending = text }

function begin() { if (pending != "") printf "%s\n", pending; pending = "" }

# The median of a field over the rounds; "" when there is none.
function middle(section, case_, name, side,    round, found) {
  found = 0
  for (round = 1; round <= rounds; round++)
    if ((section, case_, name, side, round) in seen) sorted[++found] = seen[section, case_, name, side, round] + 0
  return median(found)
}

function ratio(text, section, case_, name, order, target, aim,    ours, theirs, round, found, times, verdict) {
  ours = middle(section, case_, name, "ours")
  theirs = middle(section, case_, name, "peer")
  if (ours == "" && theirs == "") return
  found = 0
  for (round = 1; round <= rounds; round++)
    if ((section, case_, name, "ours", round) in seen && (section, case_, name, "peer", round) in seen &&
        seen[section, case_, name, "peer", round] > 0)
      sorted[++found] = seen[section, case_, name, "ours", round] / seen[section, case_, name, "peer", round]
  times = median(found)
  verdict = ""
  if (target aim != "") verdict = theirs == "" ? "no peer" : times == "" ? "no ratio" : keeps(times, order, target) ? keeps(times, order, aim) ? "aim met" : "met" : "MISSED"
  if (target == "" && verdict == "met") verdict = "aim missed"
  row(text, ours, theirs, times, target == "" ? "" : order " " target, aim, verdict)
}

# A count that must be 0 in every round; the sum over them is shown.
function count(text, section, case_, name,    round, ours, theirs, found) {
  found = ours = theirs = 0
  for (round = 1; round <= rounds; round++) {
    if ((section, case_, name, "ours", round) in seen) { found = 1; ours += seen[section, case_, name, "ours", round] }
    if ((section, case_, name, "peer", round) in seen) theirs += seen[section, case_, name, "peer", round]
  }
  if (found) row(text, ours, middle(section, case_, name, "peer") == "" ? "" : theirs, "", "0", "", ours == 0 ? "met" : "MISSED")
}

# Whether there is nothing to keep, or it is kept.
function keeps(times, order, limit) { return limit == "" || (order == "<=" ? times <= limit : times >= limit) }

function row(text, ours, theirs, times, target, aim, verdict) {
  begin()
  printf "  %-44s %10s %10s %7s %9s %6s  %s\n", text, short(ours), short(theirs), times == "" ? "-" : sprintf("%.2f", times), target, aim, verdict
}

function short(number) { return number == "" ? "-" : sprintf(number >= 100 || number == int(number) ? "%.0f" : number >= 10 ? "%.1f" : "%.2f", number) }

function median(found,    i, j, held) {
  if (!found) return ""
  for (i = 2; i <= found; i++) {
    held = sorted[i]
    for (j = i - 1; j > 0 && sorted[j] > held; j--) sorted[j + 1] = sorted[j]
    sorted[j + 1] = held
  }
  return (sorted[int((found + 1) / 2)] + sorted[int((found + 2) / 2)]) / 2
}
