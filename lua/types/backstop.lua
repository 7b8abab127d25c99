---@meta
-- What a rule sees and may return. Made by `backstop rules types`; not to be edited.

---@alias Decision "approve"|"decline"|"review"

---How long: digits and s, m, h or d, such as "90s", "5m", "1h" or "7d".
---@alias Window string

---What a rule sees of the request. The attributes that fields names are here too.
---@class Transaction
---@field id string the id of the request
---@field account string whose request it is: history and ledger hang on it
---@field amount integer minor units, such as 5716 for 57.16; nil only where the request has none
---@field currency string ISO 4217, such as "GBP"; nil only where the request has no amount
---@field at integer the event time, in milliseconds since 1970
---@field [string] string|number|boolean|nil an attribute; nil when the request lacks it

---Whose history to see, and with whom this request is.
---@class HistoryKey
---@field key string|integer
---@field counterparty? string|integer

---@class Keys
---@field history? table<string, string|integer|HistoryKey> at most 16, by the name decide reads them under
---@field stock? string[] at most 64

---What a decision moves: quantities from 0, whole. All of it happens, or nothing.
---@class Effects
---@field take? table<string, integer> out of stock; only what keys named
---@field credit? table<string, integer> to the account of the request, by unit
---@field debit? table<string, integer> from it

---What an entity did before this request, by event time.
---@class History
local History = {}

---How many requests there were, whatever was decided.
---@param window Window how long, such as "24h"
---@param delay? Window how long before now the window ends
---@return integer # how many
function History:count(window, delay) end

---The sum of their amounts.
---@param window Window how long, such as "24h"
---@param delay? Window how long before now the window ends
---@return integer # minor units
function History:sum(window, delay) end

---Their mean amount.
---@param window Window how long, such as "24h"
---@param delay? Window how long before now the window ends
---@return number? # minor units; nil without requests
function History:mean(window, delay) end

---How many of them were labelled fraud since.
---@param window Window how long, such as "24h"
---@param delay? Window how long before now the window ends
---@return integer # how many
function History:frauds(window, delay) end

---The share of frauds among them.
---@param window Window how long, such as "24h"
---@param delay? Window how long before now the window ends
---@return number? # 0 to 1; nil without requests
function History:risk(window, delay) end

---How many different counterparties there were, where keys names one.
---@param window Window how long, such as "24h"
---@return integer # how many; 64 means 64 or more
function History:distinct(window) end

---When the latest request was.
---@return integer? # milliseconds since 1970; nil without requests
function History:last_seen() end

---A list or map from rows/NAME.csv or rows/NAME.json.
---@class Rows
local Rows = {}

---Whether a key is in the list.
---@param key string|number|boolean|nil such as tx.account
---@return boolean # whether there is a row of this key; of nil there is none
function Rows:has(key) end

---A value of the row with this key.
---@param key string|number|boolean|nil such as tx.currency
---@param column? string which value; needed where there are several
---@return string|number|boolean|nil # nil when there is no such row
function Rows:get(key, column) end

---How many rows there are.
---@return integer # how many rows there are
function Rows:count() end

---@class Found
---@field list string[] the reasons, in the order they were found
---@field score integer the sum of their points
local Found = {}

---Adds a reason. One that is there already counts once.
---@param reason string at most 64 bytes
---@param points? integer what it adds to the score; 0
---@return Found # itself
function Found:add(reason, points) end

---Whether this reason was found.
---@param reason string one that may have been added
---@return boolean # whether it was
function Found:has(reason) end

---The decision that the score comes to, its reasons, and the score.
---@param decline_from integer the score from which to decline
---@param review_from? integer the score from which to ask a person
---@return Decision, string[], integer # what decide returns
function Found:decide(decline_from, review_from) end

---What a file in policies/ returns. decide gives the decision, at most 16 reasons of at most
---64 bytes, and a score within ±1e9.
---@class Policy
---@field fields string[] the attributes it reads; it sees no others
---@field safe Decision the answer when it fails, is late, or returns nonsense
---@field strict boolean true: no stand-in may approve
---@field keys fun(tx: Transaction): Keys
---@field decide fun(tx: Transaction, history: table<string, History>, stock: table<string, integer>, rows: table<string, Rows>): Decision, string[]?, integer?
---@field effects? fun(tx: Transaction, decision: Decision): Effects

---What a file in defaults/ returns: the edge decides with it, alone.
---@class Default
---@field fields string[] the attributes it reads; it sees no others
---@field safe Decision the answer when it fails, is late, or returns nonsense
---@field decide fun(tx: Transaction): Decision, string[]?, integer?

---Stable sampling: the same text falls into the same part everywhere and always.
hash = {}

---Where a text falls between 0 and 1, evenly.
---@param text string such as tx.account; at most 4096 bytes
---@param salt? string another salt, another sample
---@return number # at least 0 and less than 1
function hash.share(text, salt) end

---Whether a text is among so many of a hundred.
---@param text string such as tx.account; at most 4096 bytes
---@param percent number 0 to 100; whoever is among 10 is also among 20
---@param salt? string another salt, another sample
---@return boolean # whether it is among them
function hash.percent(text, percent, salt) end

---Amounts in minor units, from and to how people write them.
money = {}

---An amount as people write it, in minor units.
---@param text string such as "57.16", in quotes
---@param currency string such as "GBP"; it says how many decimals there are
---@return integer # minor units, such as 5716
function money.minor(text, currency) end

---An amount in minor units, as people write it.
---@param amount integer minor units, such as 5716
---@param currency string such as "GBP"
---@return string # such as "57.16"
function money.text(amount, currency) end

---So many percent of an amount.
---@param amount integer minor units
---@param percent number 0 to 1000, with up to four decimals
---@return integer # minor units, a half rounded up
function money.share(amount, percent) end

---Reasons and points, gathered one by one.
reasons = {}

---Begins a list of reasons.
---@return Found # nothing found yet
function reasons.new() end

---Regular expressions whose time grows with the text alone.
regex = {}

---Whether a text matches; write ^ and $ for all of it.
---@param text string? at most 4096 bytes; nil matches nothing
---@param pattern string as in the Rust crate regex; \w and \d are ASCII
---@return boolean # whether the pattern is found in the text
function regex.matches(text, pattern) end

---What of a text matches first; nil when nothing does.
---@param text string? at most 4096 bytes; nil matches nothing
---@param pattern string as in the Rust crate regex; \w and \d are ASCII
---@return string? ... # the groups of the first match, without groups all of it
function regex.find(text, pattern) end

---What time it was, at a fixed offset from UTC.
time = {}

---The hour of the day.
---@param at integer milliseconds since 1970, such as tx.at
---@param offset? string from UTC, such as "+02:00"; UTC
---@return integer # 0 to 23
function time.hour(at, offset) end

---The minute of the hour.
---@param at integer milliseconds since 1970, such as tx.at
---@param offset? string from UTC, such as "+02:00"; UTC
---@return integer # 0 to 59
function time.minute(at, offset) end

---The day of the week.
---@param at integer milliseconds since 1970, such as tx.at
---@param offset? string from UTC, such as "+02:00"; UTC
---@return integer # 1 is Monday, 7 is Sunday
function time.weekday(at, offset) end

---The day; dates compare as texts do.
---@param at integer milliseconds since 1970, such as tx.at
---@param offset? string from UTC, such as "+02:00"; UTC
---@return string # such as "2018-08-01"
function time.date(at, offset) end

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
