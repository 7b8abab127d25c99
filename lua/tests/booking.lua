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

  it("knows no room whose name could be another's", function()
    local attributes = { hotel = "resort:C", room_type = "C", arrive_on = "2015-07-01" }
    expect(ask({ request = { attributes = attributes } }).reasons):is({ "no_room" })
  end)

  it("leaves every stay and every cancel to core", function()
    expect(ask_default({ request = { attributes = STAY } }).reasons):is({ "rooms_unknown" })
    expect(ask_default({ request = { attributes = { cancels = "txn-1" } } }).reasons)
      :is({ "cancel_later" })
  end)
end)
