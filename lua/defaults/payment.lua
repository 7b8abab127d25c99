-- The edge, alone, knows nothing of the customer or the terminal: only the amount speaks.

-- Minor units, and the same limit as the policy's: no honest payment was above it. A lower one
-- does not pay: of the payments between 200.00 and 220.00, only one in twelve is fraud.
local AMOUNT_MAX = 22000

return {
  fields = {},
  safe = "review",
  decide = function(tx)
    if tx.amount > AMOUNT_MAX then
      return "decline", { "amount_over_limit" }, 100
    end
    return "approve", {}, 0
  end,
}
