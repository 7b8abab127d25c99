-- Is this card payment fraud? Five rules, each of which an analyst can explain to a customer.
-- Amounts are minor units. A history call takes a window and a delay: how long before this payment
-- the window ends. The payment itself is never in it.

-- No honest payment in five months of history was above this. (A shop of costlier goods raises it.)
local AMOUNT_MAX = 22000

-- What a card usually spends is taken from the four weeks before the last two: a leaked card is
-- abused for about two weeks, and its own frauds must not come to look usual.
local USUAL_WINDOW, ABUSE_LASTS = "28d", "14d"
-- The mean of fewer payments moves too much to compare with.
local USUAL_COUNT_MIN = 10
-- Honest amounts scatter by half their mean, so three times the mean is four deviations out.
local UNUSUAL_RATIO = 3
-- Two is too common alone, but not when the card's whole week is at twice its usual as well.
local SPREE_RATIO, SPREE_WINDOW, SPREE_COUNT_MIN = 2, "7d", 3

-- Chargebacks come a week late: only payments older than this can be called honest.
local LABELLED_AFTER = "7d"
-- A compromised terminal is found and cleaned within four weeks. Frauds older than that mean that
-- its last ones, though still in the labels, are over.
local CLEANED_AFTER, CLEANED_WINDOW = "28d", "7d"
-- One fraud may be the card's fault, two are the terminal's. With the delay, four weeks.
local COMPROMISE_WINDOW = "21d"
-- A compromised terminal taints every payment. Once most of the latest are honest, it is clear.
local RECENT_WINDOW, RECENT_RISK_MIN = "5d", 0.5
-- A first fraud is suspect if little else happened there, and the amount was ordinary:
-- whoever holds a leaked card tends to spend more than this, and anywhere.
local FIRST_WINDOW, FIRST_RISK_MIN, FIRST_MEAN_MAX = "3d", 0.5, 10000

-- Certain rules decline alone. The others ask a person, and decline only together.
local CERTAIN, SUSPECT = 100, 50

local function usual_amount(customer)
  if customer:count(USUAL_WINDOW, ABUSE_LASTS) >= USUAL_COUNT_MIN then
    return customer:mean(USUAL_WINDOW, ABUSE_LASTS)
  elseif customer:count(USUAL_WINDOW) >= USUAL_COUNT_MIN then
    return customer:mean(USUAL_WINDOW)
  end
  return nil
end

local function is_on_a_spree(customer, usual)
  return customer:count(SPREE_WINDOW) >= SPREE_COUNT_MIN
    and customer:mean(SPREE_WINDOW) > SPREE_RATIO * usual
end

local function judge_customer(customer, amount, found)
  local usual = usual_amount(customer)
  if not usual then
    return
  elseif amount > UNUSUAL_RATIO * usual then
    found:add("amount_unusual", CERTAIN)
  elseif amount > SPREE_RATIO * usual and is_on_a_spree(customer, usual) then
    found:add("spending_spree", SUSPECT)
  end
end

local function judge_terminal(terminal, found)
  local frauds = terminal:frauds(COMPROMISE_WINDOW, LABELLED_AFTER)
  if frauds == 0 or terminal:frauds(CLEANED_WINDOW, CLEANED_AFTER) > 0 then
    return
  end
  if frauds > 1 then
    -- No payment in the window is no sign of honesty.
    if (terminal:risk(RECENT_WINDOW, LABELLED_AFTER) or 1) >= RECENT_RISK_MIN then
      found:add("terminal_compromised", CERTAIN)
    end
  elseif (terminal:risk(FIRST_WINDOW, LABELLED_AFTER) or 0) > FIRST_RISK_MIN
    and terminal:mean(FIRST_WINDOW, LABELLED_AFTER) < FIRST_MEAN_MAX then
    found:add("terminal_suspect", SUSPECT)
  end
end

local function decide(tx, history)
  local found = reasons.new()
  if tx.amount > AMOUNT_MAX then
    found:add("amount_over_limit", CERTAIN)
  end
  judge_customer(history.customer, tx.amount, found)
  if history.terminal then
    judge_terminal(history.terminal, found)
  end
  return found:decide(CERTAIN, SUSPECT)
end

return {
  fields = { "terminal" },
  safe = "review",
  strict = false,
  keys = function(tx)
    return {
      history = {
        customer = "customer:" .. tx.account,
        -- A payment at a distance names none.
        terminal = tx.terminal ~= nil and "terminal:" .. tostring(tx.terminal) or nil,
      },
    }
  end,
  decide = decide,
}
