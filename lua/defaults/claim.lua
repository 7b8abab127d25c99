-- The edge, alone, knows no stock: it neither gives away what may be gone nor turns away who may be
-- served, and a cancel is only done once core has given back.

return {
  fields = { "cancels" },
  safe = "review",
  decide = function(tx)
    if tx.cancels ~= nil then
      return "review", { "cancel_later" }
    end
    return "review", { "stock_unknown" }
  end,
}
