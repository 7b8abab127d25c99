describe("NAME", function()
  it("approves what is ordinary", function()
    expect(ask({ request = { amount = 2000 } })):matches({ decision = "approve", reasons = {} })
  end)

  it("declines what is over the limit, by policy and default alike", function()
    local case = { request = { amount = 50001 } }
    expect(ask(case)):matches({ decision = "decline", reasons = { "amount_over_limit" } })
    expect(ask_default(case).decision):is("decline")
  end)

  -- A table of cases; fixtures("NAME.json") reads one from tests/NAME.json.
  each({
    { name = "nine in an hour are fine", times = 9, decision = "approve" },
    { name = "ten are for a person", times = 10, decision = "review" },
  }, function(row)
    local answer = ask({
      request = { amount = 2000 },
      history = { customer = { { ago = "30m", amount = 2000, times = row.times } } },
    })
    expect(answer.decision):is(row.decision)
  end)
end)
