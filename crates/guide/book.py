"""A preprocessor of mdbook: makes chapters of pages that rustdoc reads as modules. Each gets its title, its code a
language, and its links to modules and items become links to chapters and to docs.rs."""

import json
import re
import sys

MODULE = re.compile(r"\]\(crate::(\w+)(#[^)]*)?\)")
ITEM = re.compile(r"\]\((steadfast\w*)((?:::\w+)*)(?:\(\))?(#[^)]*)?\)")


def item(link):
    package, path, anchor = link[1], link[2], link[3]
    docs = f"https://docs.rs/{package.replace('_', '-')}/latest/{package}/"
    name = path.rsplit("::", 1)[-1]
    return f"]({docs}{'?search=' + name if name else anchor or ''})"


def chapter(title, text):
    lines, is_code = [f"# {title}", ""], False
    for line in text.splitlines():
        if line.startswith("```"):
            if not is_code and not line[3:].split(",")[0] or line in ("```ignore", "```no_run"):
                line = "```rust" + ("," + line[3:] if line[3:] else "")
            is_code = not is_code
        elif not is_code:
            line = "#" + line if line.startswith("#") else line
            line = line.replace("](crate)", "](index.html)")
            line = ITEM.sub(item, MODULE.sub(lambda link: f"]({link[1]}.md{link[2] or ''})", line))
        lines.append(line)
    return "\n".join(lines) + "\n"


def walk(items):
    for entry in items:
        if "Chapter" in entry:
            this = entry["Chapter"]
            this["content"] = chapter(this["name"], this["content"])
            walk(this["sub_items"])


if sys.argv[1:2] == ["supports"]:
    sys.exit(0)
_, book = json.load(sys.stdin)
walk(book.get("items") or book.get("sections"))
json.dump(book, sys.stdout)
