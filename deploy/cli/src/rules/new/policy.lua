-- Which requests does NAME stop? Say so here, in a sentence that an analyst can tell a customer.

-- A number has a name, a unit and a reason. Minor units: nobody has spent more at once.
local AMOUNT_MAX = 50000
-- Nobody has come back more often within an hour.
local HOURLY_MAX = 10

-- Certain rules decline alone. The others ask a person, and decline only together.
local CERTAIN, SUSPECT = 100, 50

local function decide(tx, history)
  local found = reasons.new()
  if tx.amount and tx.amount > AMOUNT_MAX then
    found:add("amount_over_limit", CERTAIN)
  end
  if history.customer:count("1h") >= HOURLY_MAX then
    found:add("too_often", SUSPECT)
  end
  return found:decide(CERTAIN, SUSPECT)
end

return {
  -- The attributes it reads, such as { "terminal" }: then tx.terminal is there, or nil.
  fields = {},
  safe = "review",
  -- True where nobody but core may approve: where something is given away.
  strict = false,
  keys = function(tx)
    return { history = { customer = "customer:" .. tx.account } }
  end,
  decide = decide,
}
