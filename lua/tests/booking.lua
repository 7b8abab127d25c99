local STAY = { hotel = "resort", room_type = "C", arrive_on = "2015-07-01" }
local ROOM = "room:resort:C:2015-07-01"

describe("booking", function()
  each({
    { name = "the last room is booked", left = 1, decision = "approve", reasons = {} },
    { name = "none is left", left = 0, decision = "decline", reasons = { "no_room" } },
    { name = "nobody knows", decision = "review", reasons = { "rooms_unknown" } },
  }, function(row)
    expect(ask({ request = { attributes = STAY }, stock = { [ROOM] = row.left } }))
      :matches({ decision = row.decision, reasons = row.reasons })
  end)

  it("takes one room, however many the nights", function()
    expect(ask({ request = { attributes = STAY }, stock = { [ROOM] = 2 } }).moves.take)
      :is({ [ROOM] = 1 })
  end)

  it("takes nothing when it declines", function()
    expect(ask({ request = { attributes = STAY }, stock = { [ROOM] = 0 } }).moves.take):is({})
  end)

  it("knows no room whose name could be another's", function()
    local attributes = { hotel = "resort:C", room_type = "C", arrive_on = "2015-07-01" }
    expect(ask({ request = { attributes = attributes } }).reasons):is({ "no_room" })
  end)

  it("never approves in core's place, for nobody else knows the rooms", function()
    local case = { request = { attributes = STAY }, stand_in = true }
    expect(ask(case)):matches({ decision = "review", reasons = { "rooms_unknown" } })
    expect(ask_default(case)):matches({ decision = "review", reasons = { "rooms_unknown" } })
  end)

  it("leaves a cancel to core", function()
    local case = { request = { attributes = { cancels = "txn-1" } } }
    expect(ask(case).reasons):is({ "cancel_later" })
    expect(ask_default(case).reasons):is({ "cancel_later" })
    case.stock = { ["room:"] = 0 }
    expect(ask(case).decision):is("approve")
  end)

  it("cancels nothing that is no id", function()
    expect(ask({ request = { attributes = { cancels = 7 } } }).reasons):is({ "bad_cancels" })
  end)
end)
