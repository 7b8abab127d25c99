-- The edge, alone, knows of no room whether it is left: it neither promises one nor turns a guest
-- away, and a cancel is only done once core has given back.

return {
  fields = { "cancels" },
  safe = "review",
  decide = function(tx)
    if tx.cancels ~= nil then
      return "review", { "cancel_later" }
    end
    return "review", { "rooms_unknown" }
  end,
}
