-- Is there enough in stock for this claim? It takes units of an article and credits coins for them.

-- An article's name is part of a key; no real one is longer.
local SKU_BYTES_MAX = 128
-- The largest whole number that JSON and Lua hold exactly.
local WHOLE_MAX = 2 ^ 53 - 1

local function article(tx)
  local sku = tx.sku
  if type(sku) == "number" then
    return tostring(sku)
  elseif type(sku) == "string" and #sku <= SKU_BYTES_MAX and sku:find("^%C+$") then
    return sku
  end
  return nil
end

-- A claim without an article, such as a cancel, has a key as well: core has none of what does not
-- exist, so that only a stand-in finds no level under it.
local function stock_key(tx)
  return "sku:" .. (article(tx) or "")
end

-- Absent is one; what is no whole number, or too large to count, is nil.
local function whole(number, min)
  if number == nil then
    return 1
  elseif type(number) == "number" and number % 1 == 0 and number >= min and number <= WHOLE_MAX then
    return number
  end
  return nil
end

local function quantity(tx)
  return whole(tx.qty, 1)
end

-- For all units together. An article may be worth no coins at all.
local function coins(tx)
  local each = whole(tx.coins, 0)
  return each and whole(each * quantity(tx), 0)
end

-- Core gives back what the other claim moved, or declines if there is nothing to give. Nobody else
-- can know, and to approve would be to promise it.
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
  elseif not article(tx) then
    return "decline", { "no_sku" }
  elseif not quantity(tx) then
    return "decline", { "bad_qty" }
  elseif not coins(tx) then
    return "decline", { "bad_coins" }
  elseif not left then
    return "review", { "stock_unknown" }
  elseif left < quantity(tx) then
    return "decline", { "out_of_stock" }
  end
  return "approve"
end

return {
  fields = { "sku", "qty", "coins", "cancels" },
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
    return { take = { [stock_key(tx)] = quantity(tx) }, credit = { coins = coins(tx) } }
  end,
}
