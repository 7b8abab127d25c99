-- Rules are Lua 5.1, and no more of it than the sandbox leaves (src/sandbox/prelude.lua).
std = {
    read_globals = {
        "_VERSION", "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall",
        "rawequal", "rawget", "rawset", "select", "setmetatable", "tonumber", "tostring", "type",
        "unpack", "xpcall",
        math = {
            fields = {
                "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp",
                "floor", "fmod", "frexp", "huge", "ldexp", "log", "log10", "max", "min", "modf",
                "pi", "pow", "rad", "sin", "sinh", "sqrt", "tan", "tanh",
            },
        },
        string = {
            fields = {
                "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep",
                "reverse", "sub", "upper",
            },
        },
        table = { fields = { "concat", "insert", "maxn", "remove", "sort" } },
        -- The standard library for rules: types/backstop.lua tells all of it.
        hash = { fields = { "percent", "share" } },
        money = { fields = { "minor", "share", "text" } },
        reasons = { fields = { "new" } },
        regex = { fields = { "find", "matches" } },
        time = { fields = { "date", "hour", "minute", "weekday" } },
    },
}
max_line_length = 100
-- A rule's functions have fixed parameters; it need not use them all.
unused_args = false

-- What a test finds around it.
files["**/tests/*.lua"] = {
    read_globals = { "ask", "ask_default", "describe", "each", "expect", "fixtures", "it" },
}
exclude_files = { "**/types/*.lua" }

-- The prelude is what makes that world out of Lua's.
files["**/sandbox/prelude.lua"] = {
    std = "lua51",
    globals = { "_G", "string", "table" },
}
