---What a test finds around it, in tests/NAME.lua.

---What is known when a request comes. What a case does not say is made up.
---@class Case
---@field request? table as it is sent; without a policy it asks that of the file's name
---@field history? table<string, Event[]> by the name the policy reads it under
---@field stock? table<string, integer> how much is left, by key; what is not named nobody knows
---@field stand_in? boolean asked as api asks, in core's place

---Requests that were decided before.
---@class Event
---@field ago Window how long before this request
---@field amount? integer minor units
---@field times? integer how many such requests there were; 1
---@field fraud? boolean labelled fraud since
---@field decision? Decision what was decided; approve
---@field with? string the counterparty

---@class Answer
---@field decision Decision
---@field reasons string[]
---@field score integer
---@field breach? string what the rule did wrong; the decision is then the safe one
---@field keys table what the policy asked for: history and stock
---@field moves Effects what the decision moves

---@class Expected
local Expected = {}

---The value is this; tables are compared by what is in them.
---@param expected any
function Expected:is(expected) end

---The value is anything but this.
---@param expected any
function Expected:is_not(expected) end

---The list holds this value, or the text this part.
---@param expected any
function Expected:has(expected) end

---Each field that is named here has this value; others may have any.
---@param expected table
function Expected:matches(expected) end

---@param name string
---@param body fun()
function describe(name, body) end

---One test.
---@param name string a sentence
---@param body fun()
function it(name, body) end

---One test for each row; its field name, if it has one, names it.
---@param rows table[]
---@param body fun(row: table)
function each(rows, body) end

---@param value any
---@return Expected
function expect(value) end

---Asks the policy, under the limits of production.
---@param case Case
---@return Answer
function ask(case) end

---Asks the default, as the edge does.
---@param case Case
---@return Answer
function ask_default(case) end

---The content of a JSON file in tests/.
---@param name string such as "night.json"
---@return any
function fixtures(name) end
