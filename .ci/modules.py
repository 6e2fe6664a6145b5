"""The modules of a package, and which of them use which: from their `use` lines and the paths in their code.

A name that a module exports again counts for the module that defines it. Tests are left out.
"""
import re
from collections import defaultdict
from pathlib import Path

TEST = re.compile(r"(^|[/_])tests?(\.rs|/)|testing[^/]*\.rs|_tests\.rs")
ITEM = re.compile(r"\b(?:struct|enum|trait|fn|const|type|static|union|macro_rules!)\s+(\w+)")
USE = re.compile(r"(pub(?:\([^)]*\))?\s+)?\buse\s+([^;]*);")
PATH = re.compile(r"\b(?:crate|super|self)(?:::\w+)+")


def code(text):
    """The text without comments, strings, and what stands under `#[cfg(test)]`."""
    text = re.sub(r'//[^\n]*|/\*.*?\*/|r#*".*?"#*|"(?:\\.|[^"\\])*"', "", text, flags=re.S)
    under = re.compile(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:pub(?:\([^)]*\))?\s+)?\w+[^{;]*([{;])")
    while found := under.search(text):
        end, depth = found.end(), int(found[1] == "{")
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        text = text[: found.start()] + text[end:]
    return text


def paths(tree, prefix=()):
    """Yields each path of a `use` tree, as names; the last may be `a as b`."""
    depth, part = 0, ""
    for char in tree + ",":
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char != "," or depth:
            part += char
            continue
        head, brace, rest = part.partition("{")
        names = prefix + tuple(name.strip() for name in head.split("::") if name.strip())
        if brace:
            yield from paths(rest[: rest.rindex("}")], names)
        elif names != prefix or head.strip():
            yield names
        part = ""


def absolute(module, path, modules):
    """The path from the crate's root; `None` for one of another crate."""
    base, rest = list(module), list(path)
    if rest[0] == "crate":
        return tuple(rest[1:])
    if rest[0] == "self":
        return tuple(base + rest[1:])
    if rest[0] != "super":
        return module + path if module + path[:1] in modules else None
    while rest and rest[0] == "super":
        base, rest = base[:-1], rest[1:]
    return tuple(base + rest)


def uses(src, files):
    """A dictionary from each module, a tuple of names, to the modules that it uses."""
    texts = {}
    for path in files:
        parts = str(Path(path).relative_to(src))
        if not TEST.search(parts):
            names = parts.removesuffix(".rs").split("/")
            texts[tuple(names[:-1] if names[-1] in ("mod", "lib", "main") else names)] = code(Path(path).read_text())
    own = {module: set(ITEM.findall(text)) for module, text in texts.items()}
    named, exports = defaultdict(list), defaultdict(dict)
    for module, text in texts.items():
        for found in USE.finditer(text):
            for names in paths(re.sub(r"\s+", " ", found[2])):
                path, _, alias = names[-1].partition(" as ")
                names = names[:-1] + (path,)
                if full := absolute(module, names, texts):
                    exports[module].setdefault(alias or full[-1], full)
                    # What a module exports of its own parts, it does not use.
                    named[module] += [] if found[1] and names[0] == "self" else [full]
        for found in PATH.finditer(USE.sub("", text)):
            named[module] += filter(None, [absolute(module, tuple(found[0].split("::")), texts)])

    def home(path, seen=()):
        depth = max(depth for depth in range(len(path) + 1) if path[:depth] in texts)
        module, rest = path[:depth], path[depth:]
        if not rest or rest[0] in own[module] or rest[0] not in exports[module] or (module, rest[0]) in seen:
            return module
        return home(exports[module][rest[0]] + rest[1:], seen + ((module, rest[0]),))

    return {module: {home(path) for path in named[module]} - {module} for module in texts}


def circles(graph):
    """The sets of two or more nodes that reach each other."""
    reach = {node: reached(node, graph) for node in graph}
    found = {frozenset({other for other in reach[node] if node in reach[other]} | {node}) for node in graph}
    return sorted((circle for circle in found if len(circle) > 1), key=lambda circle: sorted(circle))


def reached(start, graph):
    found, left = set(), list(graph[start])
    while left:
        if (node := left.pop()) not in found:
            found.add(node)
            left += graph[node]
    return found
