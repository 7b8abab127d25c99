local function claim(attributes, left)
  return { request = { attributes = attributes }, stock = { ["sku:85123A"] = left } }
end

describe("claim", function()
  each({
    { name = "the last one is granted", qty = 6, left = 6, decision = "approve", reasons = {} },
    { name = "one too many is not", qty = 6, left = 5, decision = "decline",
      reasons = { "out_of_stock" } },
    { name = "what core has none of is gone", qty = 1, left = 0, decision = "decline",
      reasons = { "out_of_stock" } },
    { name = "half of one is no number", qty = 1.5, left = 5, decision = "decline",
      reasons = { "bad_qty" } },
  }, function(row)
    expect(ask(claim({ sku = "85123A", qty = row.qty }, row.left)))
      :matches({ decision = row.decision, reasons = row.reasons })
  end)

  it("takes the articles and credits coins for them", function()
    expect(ask(claim({ sku = "85123A", qty = 6, coins = 5 }, 9)).moves)
      :is({ take = { ["sku:85123A"] = 6 }, credit = { coins = 30 }, debit = {} })
  end)

  it("moves nothing when it declines", function()
    expect(ask(claim({ sku = "85123A", qty = 6 }, 5)).moves)
      :is({ take = {}, credit = {}, debit = {} })
  end)

  it("never approves in core's place, for nobody else knows the stock", function()
    local case = { request = { attributes = { sku = "85123A" } }, stand_in = true }
    expect(ask(case)):matches({ decision = "review", reasons = { "stock_unknown" } })
    expect(ask_default(case)):matches({ decision = "review", reasons = { "stock_unknown" } })
  end)

  it("leaves a cancel to core", function()
    local case = { request = { attributes = { cancels = "txn-1" } } }
    expect(ask(case).reasons):is({ "cancel_later" })
    expect(ask_default(case).reasons):is({ "cancel_later" })
    case.stock = { ["sku:"] = 0 }
    expect(ask(case).decision):is("approve")
  end)
end)
