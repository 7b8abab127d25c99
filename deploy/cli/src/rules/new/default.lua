-- What the edge answers alone, when nobody behind it does: it knows the request and no history.

-- Minor units, and the same limit as the policy's.
local AMOUNT_MAX = 50000

return {
  fields = {},
  safe = "review",
  decide = function(tx)
    if tx.amount and tx.amount > AMOUNT_MAX then
      return "decline", { "amount_over_limit" }, 100
    end
    return "approve", {}, 0
  end,
}
