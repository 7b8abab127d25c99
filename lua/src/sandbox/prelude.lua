-- Closes the world that a rule runs in, before the world is frozen.
--
-- What stays is Lua 5.1, without input, output, clock, randomness or a way to load code; what is
-- replaced could run long inside C, where no time limit reaches, or would show a memory address,
-- which no two machines share.

local REPEATED_BYTES_MAX = 65536 -- what string.rep may make
local SEARCH_WORK_MAX = 4194304 -- bytes of text times bytes of pattern: the worst case of a search
local ELEMENTS_MAX = 10000 -- what table.sort, table.concat and unpack may go through at once

local KEPT = {
    [_G] = {
        "_G", "_VERSION", "assert", "error", "getmetatable", "hash", "ipairs", "math", "money",
        "next", "pairs", "pcall", "rawequal", "rawget", "rawset", "regex", "select", "setmetatable",
        "string", "table", "time", "tonumber", "tostring", "type", "unpack", "xpcall",
    },
    [string] = {
        "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep",
        "reverse", "sub", "upper",
    },
    [table] = { "concat", "insert", "maxn", "remove", "sort" },
    [math] = {
        "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor",
        "fmod", "frexp", "huge", "ldexp", "log", "log10", "max", "min", "modf", "pi", "pow", "rad",
        "sin", "sinh", "sqrt", "tan", "tanh",
    },
}

for library, names in pairs(KEPT) do
    local kept = {}
    for _, name in ipairs(names) do
        kept[name] = true
    end
    for name in pairs(library) do
        if not kept[name] then
            library[name] = nil
        end
    end
end

local error, getmetatable, select, tonumber, type = error, getmetatable, select, tonumber, type
local pcall, xpcall, tostring, unpack = pcall, xpcall, tostring, unpack
local ipairs, setmetatable = ipairs, setmetatable
local rep, find, format = string.rep, string.find, string.format
local concat, sort = table.concat, table.sort

function string.rep(text, count)
    if type(text) == "number" then
        text = tostring(text)
    end
    local times = tonumber(count)
    if type(text) ~= "string" or not times then
        error("string.rep takes a string and a count", 2)
    end
    -- Written so that a count that is not a number of times, such as 0/0, does not pass.
    if not (#text * times <= REPEATED_BYTES_MAX and times <= REPEATED_BYTES_MAX) then
        error("string.rep makes at most " .. REPEATED_BYTES_MAX .. " bytes", 2)
    end
    return times < 1 and "" or rep(text, times)
end

function string.find(text, pattern, ...)
    if type(text) == "string" and type(pattern) == "string" then
        if #text * #pattern > SEARCH_WORK_MAX then
            error("string.find: text and pattern are too long together", 2)
        end
    end
    return find(text, pattern, ...)
end

function table.sort(list, before)
    if type(list) == "table" and #list > ELEMENTS_MAX then
        error("table.sort sorts at most " .. ELEMENTS_MAX .. " elements", 2)
    end
    sort(list, before)
end

local function check_range(name, list, first, last)
    if type(list) ~= "table" then
        error(name .. " takes a table", 3)
    end
    first, last = tonumber(first) or 1, tonumber(last) or #list
    -- As above: what is no number of elements does not pass.
    if last - first < ELEMENTS_MAX then
        return first, last
    end
    error(name .. " goes through at most " .. ELEMENTS_MAX .. " elements", 3)
end

function table.concat(list, separator, first, last)
    first, last = check_range("table.concat", list, first, last)
    return concat(list, separator or "", first, last)
end

_G.unpack = function(list, first, last)
    first, last = check_range("unpack", list, first, last)
    return unpack(list, first, last)
end

local ADDRESSED = { ["function"] = true, table = true, thread = true, userdata = true }

local function shown(value)
    local kind = type(value)
    if ADDRESSED[kind] then
        local meta = getmetatable(value)
        if type(meta) ~= "table" or not meta.__tostring then
            return kind
        end
    end
    return tostring(value)
end

_G.tostring = shown

function string.format(pattern, ...)
    local count = select("#", ...)
    if count > 64 then
        error("string.format takes at most 64 values", 2)
    end
    local values = { ... }
    for place = 1, count do
        if ADDRESSED[type(values[place])] then
            values[place] = shown(values[place])
        end
    end
    return format(pattern, unpack(values, 1, count))
end

-- Reasons and points, gathered one by one. The methods lie apart from the metatable, where no rule
-- can reach them to replace one.
local REASONS_MAX, REASON_BYTES_MAX = 16, 64
local methods = {}
local found = { __index = methods, __metatable = "reasons" }

function methods.has(self, reason)
    for _, known in ipairs(self.list) do
        if known == reason then
            return true
        end
    end
    return false
end

function methods.add(self, reason, points)
    if type(reason) ~= "string" or #reason > REASON_BYTES_MAX then
        error("a reason is a text of at most " .. REASON_BYTES_MAX .. " bytes; write a short word", 2)
    elseif points ~= nil and type(points) ~= "number" then
        error("points are a " .. type(points) .. "; write a number", 2)
    end
    if not methods.has(self, reason) then
        if #self.list == REASONS_MAX then
            error("an answer has at most " .. REASONS_MAX .. " reasons; add fewer", 2)
        end
        self.list[#self.list + 1] = reason
        self.score = self.score + (points or 0)
    end
    return self
end

function methods.decide(self, decline_from, review_from)
    if type(decline_from) ~= "number" then
        error("decide takes the score from which to decline; write a number", 2)
    end
    if self.score >= decline_from then
        return "decline", self.list, self.score
    elseif review_from and self.score >= review_from then
        return "review", self.list, self.score
    end
    return "approve", self.list, self.score
end

_G.reasons = {
    new = function()
        return setmetatable({ list = {}, score = 0 }, found)
    end,
}

-- Running out of memory ends the call, whatever the rule does about it.
local function checked(ok, ...)
    if not ok and (...) == "not enough memory" then
        error("not enough memory", 0)
    end
    return ok, ...
end

_G.pcall = function(...)
    return checked(pcall(...))
end

_G.xpcall = function(...)
    return checked(xpcall(...))
end

-- A file runs anew for each call, so that nothing it keeps outlives one.
local function run(chunk, name, ...)
    local first, second, third = chunk()[name](...)
    return first, second, third
end

-- What a default sees of a transaction without an event time.
local timeless = {
    __index = function(_, name)
        if name == "at" then
            error("a default may not read tx.at when the client did not send it", 2)
        end
    end,
    __metatable = "tx",
}

return run, timeless
