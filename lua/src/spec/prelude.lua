-- The world of a test: describe, it, each, expect, and the rules to ask. Returns what runs a file of tests
-- and says what became of each.

local native, file = ...
local info, clock = debug.info, native.clock

local outcomes, path = {}, {}

-- The line of the test that is under way, not of what it called here.
local function line_of_test()
    for level = 1, 32 do
        local source, line = info(level, "sl")
        if not source then
            return nil
        elseif source == file or source == "=" .. file then
            return line
        end
    end
    return nil
end

local function shown(value, depth)
    if type(value) == "string" then
        return string.format("%q", value)
    elseif type(value) ~= "table" then
        return tostring(value)
    elseif depth > 4 then
        return "{ ... }"
    end
    local parts, listed = {}, #value
    for place = 1, listed do
        parts[place] = shown(value[place], depth + 1)
    end
    local names = {}
    for name in pairs(value) do
        if type(name) ~= "number" then
            names[#names + 1] = tostring(name)
        end
    end
    table.sort(names)
    for _, name in ipairs(names) do
        local key = string.find(name, "^[%a_][%w_]*$") and name or "[" .. string.format("%q", name) .. "]"
        parts[#parts + 1] = key .. " = " .. shown(value[name], depth + 1)
    end
    return #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
end

local function same(one, other, depth)
    if one == other then
        return true
    elseif type(one) ~= "table" or type(other) ~= "table" or depth > 16 then
        return false
    end
    for key, value in pairs(one) do
        if not same(value, other[key], depth + 1) then
            return false
        end
    end
    for key in pairs(other) do
        if one[key] == nil then
            return false
        end
    end
    return true
end

local function fail(message)
    error({ message = message, line = line_of_test() }, 0)
end

local expected = {}

function expected.is(self, value)
    if not same(self.value, value, 0) then
        fail("expected " .. shown(value, 0) .. ", got " .. shown(self.value, 0))
    end
end

function expected.is_not(self, value)
    if same(self.value, value, 0) then
        fail("expected anything but " .. shown(value, 0))
    end
end

function expected.has(self, value)
    if type(self.value) == "string" and type(value) == "string" then
        if string.find(self.value, value, 1, true) then
            return
        end
    elseif type(self.value) == "table" then
        for _, item in pairs(self.value) do
            if same(item, value, 0) then
                return
            end
        end
    end
    fail("expected one with " .. shown(value, 0) .. ", got " .. shown(self.value, 0))
end

function expected.matches(self, fields)
    if type(fields) ~= "table" or type(self.value) ~= "table" then
        fail("expected a table like " .. shown(fields, 0) .. ", got " .. shown(self.value, 0))
    end
    local names = {}
    for name in pairs(fields) do
        names[#names + 1] = name
    end
    table.sort(names, function(one, other) return tostring(one) < tostring(other) end)
    for _, name in ipairs(names) do
        if not same(self.value[name], fields[name], 0) then
            fail("expected " .. tostring(name) .. " = " .. shown(fields[name], 0) .. ", got "
                .. shown(self.value[name], 0) .. " in " .. shown(self.value, 0))
        end
    end
end

local function named(name)
    local parts = {}
    for place, part in ipairs(path) do
        parts[place] = part
    end
    parts[#parts + 1] = tostring(name)
    return table.concat(parts, ": ")
end

local function try(name, body)
    local begun = clock()
    local ok, failure = pcall(body)
    local outcome = { name = name, millis = clock() - begun }
    if not ok then
        outcome.failure = failure or "it failed"
    end
    outcomes[#outcomes + 1] = outcome
end

function describe(name, body)
    path[#path + 1] = tostring(name)
    local ok, failure = pcall(body)
    if not ok then
        outcomes[#outcomes + 1] = { name = named("(outside of it)"), millis = 0, failure = failure or "it failed" }
    end
    path[#path] = nil
end

function it(name, body)
    try(named(name), body)
end

function each(rows, body)
    for place, row in ipairs(rows) do
        local name = type(row) == "table" and row.name or place
        try(named(name), function() body(row) end)
    end
end

function expect(value)
    return setmetatable({ value = value }, { __index = expected })
end

ask, ask_default, fixtures = native.ask, native.ask_default, native.fixtures
debug, loadstring, getfenv, setfenv, newproxy, collectgarbage, print = nil, nil, nil, nil, nil, nil, nil

return function(chunk)
    chunk()
    return outcomes
end
