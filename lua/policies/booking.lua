-- Is a room of this type left for the day of arrival? A stay takes one, however many its nights.

-- The names make one key, which has its own limit; no real one is longer.
local NAME_BYTES_MAX = 128
-- Without colons, or the rooms of two hotels could share a key.
local NAME = "^[^%c:]+$"

local function name(value)
  if type(value) == "number" then
    return tostring(value)
  elseif type(value) == "string" and #value <= NAME_BYTES_MAX and value:find(NAME) then
    return value
  end
  return nil
end

local function room(tx)
  local hotel, room_type, arrive_on = name(tx.hotel), name(tx.room_type), name(tx.arrive_on)
  if hotel and room_type and arrive_on then
    return hotel .. ":" .. room_type .. ":" .. arrive_on
  end
  return nil
end

-- A stay without a room, such as a cancel, has a key as well: core has none of what does not exist,
-- so that only a stand-in finds no level under it.
local function stock_key(tx)
  return "room:" .. (room(tx) or "")
end

-- Core gives the room back, or declines if there is none to give. Nobody else can know, and to
-- approve would be to promise it.
local function judge_cancel(tx, left)
  if type(tx.cancels) ~= "string" then
    return "decline", { "bad_cancels" }
  elseif not left then
    return "review", { "cancel_later" }
  end
  return "approve"
end

local function decide(tx, history, stock)
  local left = stock[stock_key(tx)]
  if tx.cancels ~= nil then
    return judge_cancel(tx, left)
  elseif not room(tx) then
    return "decline", { "no_room" }
  elseif not left then
    return "review", { "rooms_unknown" }
  elseif left < 1 then
    return "decline", { "no_room" }
  end
  return "approve"
end

return {
  fields = { "hotel", "room_type", "arrive_on", "cancels" },
  safe = "review",
  -- Only core sees what is left, so only core gives it away.
  strict = true,
  keys = function(tx)
    return { stock = { stock_key(tx) } }
  end,
  decide = decide,
  effects = function(tx, decision)
    if decision ~= "approve" then
      return {}
    end
    return { take = { [stock_key(tx)] = 1 } }
  end,
}
