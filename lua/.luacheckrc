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
    },
}
max_line_length = 100
-- A rule's functions have fixed parameters; it need not use them all.
unused_args = false

-- The prelude is what makes that world out of Lua's.
files["**/prelude.lua"] = {
    std = "lua51",
    globals = { "_G", "string", "table" },
}
