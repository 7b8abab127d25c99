-- A customer who spent 10.00 twelve times, twenty days ago.
local REGULAR = { { ago = "20d", amount = 1000, times = 12 } }

describe("payment", function()
  it("approves a payment that nothing is known of", function()
    expect(ask({ request = { amount = 2000, attributes = { terminal = "3156" } } }))
      :matches({ decision = "approve", reasons = {}, score = 0 })
  end)

  it("asks for the customer's history, and the terminal's where there is one", function()
    expect(ask({}).keys.history):is({ customer = "customer:customer-1" })
    expect(ask({ request = { attributes = { terminal = 7 } } }).keys.history)
      :is({ customer = "customer:customer-1", terminal = "terminal:7" })
  end)

  each({
    { name = "220.00 is within the limit", amount = 22000, decision = "approve", reasons = {} },
    { name = "a penny more is not", amount = 22001, decision = "decline",
      reasons = { "amount_over_limit" } },
  }, function(row)
    local case = { request = { amount = row.amount } }
    expect(ask(case)):matches({ decision = row.decision, reasons = row.reasons })
    expect(ask_default(case)):matches({ decision = row.decision, reasons = row.reasons })
  end)

  it("declines when two suspicions come together", function()
    local spree = { REGULAR[1], { ago = "2d", amount = 2500, times = 3 } }
    local first = { { ago = "8d", amount = 1000, fraud = true } }
    expect(ask({
      request = { amount = 2500, attributes = { terminal = "3156" } },
      history = { customer = spree, terminal = first },
    })):matches({ decision = "decline", reasons = { "spending_spree", "terminal_suspect" } })
  end)

  describe("customer", function()
    each({
      { name = "three times the usual is usual", amount = 3000, decision = "approve" },
      { name = "more is not", amount = 3001, decision = "decline" },
    }, function(row)
      local answer = ask({ request = { amount = row.amount }, history = { customer = REGULAR } })
      expect(answer.decision):is(row.decision)
    end)

    it("needs ten payments to know what is usual", function()
      local few = { { ago = "20d", amount = 1000, times = 9 } }
      expect(ask({ request = { amount = 9000 }, history = { customer = few } }).decision)
        :is("approve")
    end)

    each({
      { name = "a whole week at over twice the usual is for a person", times = 3,
        decision = "review", reasons = { "spending_spree" } },
      { name = "two payments are no week", times = 2, decision = "approve", reasons = {} },
    }, function(row)
      local spree = { REGULAR[1], { ago = "2d", amount = 2500, times = row.times } }
      expect(ask({ request = { amount = 2500 }, history = { customer = spree } }))
        :matches({ decision = row.decision, reasons = row.reasons })
    end)

    it("does not take the last two weeks for usual while there is older history", function()
      local leaked = { REGULAR[1], { ago = "5d", amount = 5000, times = 12 } }
      expect(ask({ request = { amount = 5000 }, history = { customer = leaked } }).reasons)
        :is({ "amount_unusual" })
    end)
  end)

  describe("terminal", function()
    local function at(events)
      return ask({
        request = { amount = 1000, attributes = { terminal = "3156" } },
        history = { terminal = events },
      })
    end

    it("declines where two frauds were labelled", function()
      expect(at({ { ago = "10d", amount = 1000, times = 2, fraud = true } }))
        :matches({ decision = "decline", reasons = { "terminal_compromised" } })
    end)

    it("does not hold a label against it that could not have come yet", function()
      expect(at({ { ago = "6d", amount = 1000, times = 2, fraud = true } }).decision):is("approve")
    end)

    it("clears it once most of the latest are honest", function()
      local events = {
        { ago = "11d", amount = 1000, times = 2, fraud = true },
        { ago = "9d", amount = 1000, times = 3 },
      }
      expect(at(events).decision):is("approve")
    end)

    it("takes it for cleaned when its first frauds are four weeks old", function()
      local events = {
        { ago = "29d", amount = 1000, fraud = true },
        { ago = "10d", amount = 1000, times = 2, fraud = true },
      }
      expect(at(events).decision):is("approve")
    end)

    it("asks a person after a first fraud where little else happened", function()
      expect(at({ { ago = "8d", amount = 1000, fraud = true } }))
        :matches({ decision = "review", reasons = { "terminal_suspect" }, score = 50 })
    end)

    it("blames the card for a first fraud of a large amount", function()
      expect(at({ { ago = "8d", amount = 10000, fraud = true } }).decision):is("approve")
    end)
  end)
end)
