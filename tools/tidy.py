#!/usr/bin/env python3
"""The house rules that guard correctness, checked over the whole tree in about a second.

    tools/tidy.py                     all rules but the last
    tools/tidy.py --headers [CXX]     every public and private header compiles alone (slow: runs the compiler)

Rules (each finding names its rule):
  includes      #include lines go down the table of rooms in tools/layers.toml; libraries stay behind their door
  co_await      co_await stands alone in a statement; g++ 12 miscompiles other forms without a word
  clock, random, environment
                the real clock, sleeping, chance and environment variables only in files listed in layers.toml
  hosts         no host names of package registries and mirrors, no paths of somebody's own machine
  headers       (--headers) no header relies on what its users happen to include before it

Taste (length, wording, layout) is left to readers. A finding is a line `path:line: rule: what to do`.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
CXX_SUFFIXES = {".h", ".cpp"}
CXX_FOLDERS = ("include", "src", "tests")
SKIPPED_FOLDERS = {".git", "__pycache__", ".cache"}


@dataclasses.dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


# -----------------------------------------------------------------------------------------------------------
# C++ text: comments and literals out of the way, every line where it was.

LITERALS = re.compile(
    r"//[^\n]*"
    r"|/\*.*?\*/"
    r'|(?P<raw>R"(?P<delimiter>[^\s()\\"]*)\(.*?\)(?P=delimiter)")'
    r'|(?P<string>"(?:\\.|[^"\\\n])*")'
    r"|(?P<char>(?<![0-9A-Za-z_])(?:u8|u|U|L)?'(?:\\.|[^'\\\n])+')",
    re.DOTALL,
)


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """Comments become spaces; literals stay (an #include's file name is one)."""
    return LITERALS.sub(lambda m: m[0] if m["raw"] or m["string"] or m["char"] else blank(m[0]), text)


def code_only(text):
    """Comments and the insides of literals become spaces: no brace or word in them is taken for code."""

    def replace(match):
        if match["raw"] or match["string"]:
            return '"' + blank(match[0][1:-1]) + '"'
        if match["char"]:
            return "'" + blank(match[0][1:-1]) + "'"
        return blank(match[0])

    return LITERALS.sub(replace, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


# -----------------------------------------------------------------------------------------------------------
# includes

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def room_of(path):
    """'src/net/loop.cpp' → 'net'; None for what belongs to no room, such as tests/doctest_main.cpp."""
    parts = path.split("/")
    if parts[:2] == ["include", "perigee"] and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[0] == "tests" and len(parts) > 2:
        return parts[1]
    return None


def may_include(rooms, room, other):
    if room == other:
        return True
    rule = rooms[room]
    return other in rule.get("also", []) or rooms[other]["row"] < rule.get("below", rule["row"])


def check_includes(path, text, layers):
    rooms = layers["rooms"]
    room = room_of(path)
    in_test = path.startswith("tests/")
    if room is not None and room not in rooms:
        if not in_test:
            yield Finding(path, 1, "includes", f"room '{room}' is not in tools/layers.toml")
        return
    for match in INCLUDE.finditer(without_comments(text)):
        line, quoted, target = line_of(text, match.start()), match[1] == '"', match[2]
        for library, doors in layers["libraries"].items():
            matches = target.startswith(library) if library.endswith("/") else target == library
            if matches and room is not None and room not in doors:
                yield Finding(
                    path,
                    line,
                    "includes",
                    f"<{target}> stays behind {', '.join(doors)}; '{room}' uses that "
                    "room's headers instead",
                )
        if target.startswith("perigee/"):
            other = target.split("/")[1]
            if other not in rooms:
                yield Finding(path, line, "includes", f"{target}: no room '{other}' in tools/layers.toml")
            elif room is not None and not may_include(rooms, room, other):
                yield Finding(path, line, "includes", f"'{room}' may not know '{other}' (tools/layers.toml)")
        elif quoted:
            resolved = os.path.normpath(os.path.join(os.path.dirname(path), target))
            other = room_of(resolved)
            if resolved.startswith("src/") and other is not None and other != room:
                yield Finding(
                    path, line, "includes", f"{target} is private to '{other}'; use include/perigee/{other}/"
                )
            if resolved.startswith("tests/") and not in_test:
                yield Finding(path, line, "includes", f"{target}: the program does not include its tests")


# -----------------------------------------------------------------------------------------------------------
# co_await

CO_AWAIT = re.compile(r"(?<!operator )\bco_await\b")
OPENING, CLOSING = "([{", ")]}"
PAIR = {")": "(", "]": "[", "}": "{"}
# What may stand before a `{` that opens a block; any other `{` builds a value.
BLOCK_HEADER = re.compile(
    r"(?:^|[);:]|\b(?:else|do|try)|\)\s*(?:const|noexcept|mutable|override|final|\s)*"
    r"|->\s*[\w:<>,\s*&]+)\s*$"
)
CONTROL_WORDS = re.compile(r"^(?:else\b|do\b|case\s[^:]*(?:::[^:]*)*:(?!:)|default\s*:)\s*")
CONTROL_HEAD = re.compile(r"^(?:if(?:\s+constexpr)?|while|for|switch)\s*\(")
TARGET = re.compile(r"^(?:\[\[\w+\]\]\s*)?[\w:<>,\s*&.()\[\]-]*[\w>)\]*&]\s*=$")
STRUCTURED = re.compile(r"(?:auto|auto\s*&|auto\s*&&)\s*\[")


def statement_start(code, position):
    """Where the statement that holds `position` begins; None inside brackets or a braced value."""
    closed = []
    for i in range(position - 1, -1, -1):
        c = code[i]
        if c in CLOSING:
            if c == "}" and not closed:
                return i + 1
            closed.append(PAIR[c])
        elif c in OPENING:
            if closed:
                if closed.pop() != c:
                    return None
            elif c == "{":
                before = code[max(0, i - 400) : i]
                return i + 1 if BLOCK_HEADER.search(last_statement(before)) else None
            else:
                return None
        elif c == ";" and not closed:
            return i + 1
    return 0


def last_statement(text):
    """The end of `text` from its last statement on; brackets are skipped, so `for (;;)` stays whole."""
    depth = 0
    for i in range(len(text) - 1, -1, -1):
        c = text[i]
        if c in ")]":
            depth += 1
        elif c in "([":
            depth -= 1
        elif c in ";{}" and depth <= 0:
            return text[i + 1 :].strip()
    return text.strip()


def without_control(prefix):
    """`else if (x) v =` → `v =`: a statement under a condition is a statement like any other."""
    while True:
        stripped = CONTROL_WORDS.sub("", prefix, count=1)
        head = CONTROL_HEAD.match(stripped)
        if head:
            depth, end = 0, head.end() - 1
            for end in range(head.end() - 1, len(stripped)):
                depth += {"(": 1, ")": -1}.get(stripped[end], 0)
                if depth == 0:
                    break
            stripped = stripped[end + 1 :].lstrip()
        if stripped == prefix:
            return prefix
        prefix = stripped


def awaited_expression(code, position):
    """The text after co_await up to its `;`; None if a comma or a closing bracket ends it."""
    depth = 0
    for i in range(position, len(code)):
        c = code[i]
        if c in OPENING:
            depth += 1
        elif c in CLOSING:
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0 and c == ";":
            return code[position:i]
        elif depth == 0 and c == "," and code.count("<", position, i) <= code.count(">", position, i):
            return None
    return None


def judge_co_await(code, match):
    """None if this co_await has an allowed form, else what is wrong with it."""
    start = statement_start(code, match.start())
    if start is None:
        return "await in a statement of its own, not inside brackets, a condition, a call or a braced value"
    prefix = without_control(" ".join(code[start : match.start()].split()))
    if STRUCTURED.search(prefix):
        return "name the result first, then bind its parts: auto p = co_await …; auto& [a, b] = p;"
    if prefix not in ("", "(void)", "co_return") and not (
        TARGET.match(prefix) and not prefix.endswith(("==", "!=", "<=", ">="))
    ):
        return "only `co_await x;`, `auto v = co_await x;`, `v = co_await x;` and `co_return co_await x;`"
    awaited = awaited_expression(code, match.end())
    if awaited is None:
        return "co_await ends with its statement: name the result, then use it"
    if "{" in awaited:
        if re.search(r"(?:^|[(,=\s])\[[^\]]*\]\s*(?:\(|\{|mutable|<)", awaited):
            return "no lambda in the awaited expression: use a named function, or name it and give it arguments"
        return "name anything built with braces before the co_await"
    outer = re.sub(r"\s+", " ", strip_brackets(awaited))
    if re.search(r"\?|&&|\|\||==|!=| [-+*/%<>|] ", outer):
        return "name the awaited result, then calculate with it"
    return None


def strip_brackets(text):
    result, depth = [], 0
    for c in text:
        if c in OPENING:
            depth += 1
        elif c in CLOSING:
            depth -= 1
        elif depth == 0:
            result.append(c)
    return "".join(result)


CAPTURING_COROUTINE = re.compile(
    r"(?<![\w)\]])\[([^\[\]]+)\]\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*(?:mutable\s*)?"
    r"->\s*(?:[\w:]+::)?Task\s*<"
)


def check_co_await(path, text, layers):
    if allowed(path, layers, "co_await"):
        return
    code = code_only(text)
    for match in CO_AWAIT.finditer(code):
        problem = judge_co_await(code, match)
        if problem:
            yield Finding(path, line_of(code, match.start()), "co_await", problem)
    if not path.startswith("tests/"):  # a test's lambda lives on its stack until the loop is idle
        for match in CAPTURING_COROUTINE.finditer(code):
            yield Finding(
                path,
                line_of(code, match.start()),
                "co_await",
                "a coroutine lambda captures nothing: its captures die before its frame",
            )


# -----------------------------------------------------------------------------------------------------------
# clock, random, environment

def words(*patterns):
    return re.compile("|".join(patterns))


WORLD = {
    "clock": (
        words(
            r"\b(?:steady|system|high_resolution|utc|file)_clock::now\b",
            r"\bclock_gettime\b|\bgettimeofday\b|\buv_(?:now|hrtime|gettimeofday|clock_gettime)\b",
            r"\bstd::time\s*\(|(?<![\w.>:])time\s*\(\s*(?:nullptr|NULL|0|&\w+)\s*\)",
            r"\bthis_thread::sleep|\b(?:usleep|nanosleep|uv_sleep)\s*\(|(?<!\w)::sleep\s*\(",
        ),
        "take the time from the Clock that was handed in; wait with the coro room's timers",
    ),
    "random": (
        words(
            r"\b(?:std::)?random_device\b|\bmt19937\w*\b|\bdefault_random_engine\b",
            r"(?<![\w.>:])s?rand\s*\(|\bstd::s?rand\s*\(|(?<!\w)::s?random\s*\(",
            r"\buv_random\b|\bgetrandom\b|\bgetentropy\b|\barc4random\w*\b",
        ),
        "take chance from the Rng that was handed in",
    ),
    "environment": (
        words(r"\b(?:secure_)?getenv\b|\bsetenv\s*\(|\bputenv\s*\(|\buv_os_getenv\b|(?<!\w)environ\b"),
        "only app reads the environment; take the value as an argument",
    ),
}


def allowed(path, layers, rule):
    return any(
        path == entry or (entry.endswith("/") and path.startswith(entry))
        for entry in layers["allowed"].get(rule, [])
    )


def check_world(path, text, layers):
    code = code_only(text)
    for rule, (pattern, advice) in WORLD.items():
        if not allowed(path, layers, rule):
            for match in pattern.finditer(code):
                yield Finding(path, line_of(code, match.start()), rule, f"`{match[0].strip()}`: {advice}")


# -----------------------------------------------------------------------------------------------------------
# hosts

# In pieces, so that this file may be checked as well.
HOSTS = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("registry", "npmjs"),
    ("npmjs", "com"),
    ("yarnpkg", "com"),
    ("crates", "io"),
    ("proxy", "golang"),
    ("rubygems", "org"),
    ("repo1", "maven"),
    ("conda", "anaconda"),
    ("deb", "debian", "org"),
    ("ftp", "debian", "org"),
    ("security", "debian", "org"),
    ("snapshot", "debian", "org"),
    ("archive", "ubuntu", "com"),
    ("security", "ubuntu", "com"),
    ("registry", "docker"),
    ("docker", "io"),
    ("ghcr", "io"),
    ("quay", "io"),
    ("jfrog", "io"),
]
HOST = re.compile(
    "|".join(r"(?<![\w-])" + r"\.(?:[a-z0-9-]+\.)?".join(parts) + r"(?![\w-])" for parts in HOSTS)
    + r"|https?://(?:[\w-]+\.)*(?:mirror|mirrors|artifactory|nexus|devpi)[\w-]*[.:/]"
    + "|(?<![\\w.])/"
    + r"(?:work|root|home/[a-z]+)/[a-z]",
    re.IGNORECASE,
)


# A file without any of these words cannot match: looking for words is far faster than the expression.
HINTS = [max(parts, key=len) for parts in HOSTS] + ["mirror", "artifactory", "nexus", "devpi"]
HINTS += [f"/{folder}/" for folder in ("work", "root", "home")]


def check_hosts(path, text, _layers):
    lowered = text.lower()
    if not any(hint in lowered for hint in HINTS):
        return
    for match in HOST.finditer(text):
        message = f"`{match[0]}`: packages are asked for by name only, files by their place in this repository"
        yield Finding(path, line_of(text, match.start()), "hosts", message)


# -----------------------------------------------------------------------------------------------------------


def tree(root):
    """Every file of the repository, relative to its root: what git would track, without asking git."""
    for folder, folders, files in os.walk(root):
        relative = os.path.relpath(folder, root)
        folders[:] = sorted(
            f
            for f in folders
            if f not in SKIPPED_FOLDERS
            and not (
                (relative == "." and (f == "build" or f.startswith("build-")))
                or (relative == "subprojects" and f != "packagefiles")
            )
        )
        for name in sorted(files):
            yield os.path.normpath(os.path.join(relative, name)).replace(os.sep, "/")


def check_file(path, text, layers):
    """All findings in one file; `path` decides which rules apply."""
    yield from check_hosts(path, text, layers)
    if pathlib.PurePosixPath(path).suffix in CXX_SUFFIXES and path.split("/")[0] in CXX_FOLDERS:
        yield from check_includes(path, text, layers)
        yield from check_co_await(path, text, layers)
        yield from check_world(path, text, layers)


def check_tree(root, layers):
    for path in tree(root):
        data = (root / path).read_bytes()
        if b"\0" not in data[:4096]:
            yield from check_file(path, data.decode("utf-8", errors="replace"), layers)


def load_layers(root):
    return tomllib.loads((root / "tools" / "layers.toml").read_text())


def library_flags():
    names = ["libuv", "nlohmann_json", "yaml-cpp", "spdlog", "prometheus-cpp-core", "doctest"]
    flags = []
    for name in names:
        result = subprocess.run(["pkg-config", "--cflags", name], capture_output=True, text=True)
        flags += shlex.split(result.stdout)
    return flags + [f"-I{path}" for path in sorted((ROOT / "subprojects").glob("llhttp-*/include"))]


def check_headers(root, compiler):
    """Compiles each header as a file of its own."""
    headers = [path for path in tree(root) if path.endswith(".h") and path.split("/")[0] in CXX_FOLDERS]
    flags = [
        "-std=c++23",
        "-Wall",
        "-Wextra",
        "-Wno-unused-function",
        "-O0",
        "-x",
        "c++",
        "-c",
        "-o",
        os.devnull,
        f"-I{root / 'include'}",
        '-DPERIGEE_SOURCE_ROOT="."',  # given by the build, as is the next
        '-DPERIGEE_TEST_DATA="."',
    ]
    prefix = (
        shlex.split(compiler)
        if compiler
        else ([shutil.which("ccache")] if shutil.which("ccache") else []) + ["g++"]
    )
    libraries = library_flags()

    def compile_one(header):
        source = f'#include "{root / header}"\n'
        result = subprocess.run(
            [*prefix, *flags, *libraries, "-"], input=source, capture_output=True, text=True
        )
        return header, result

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for header, result in pool.map(compile_one, headers):
            if result.returncode != 0 or "warning:" in result.stderr:
                first = next(
                    (line for line in result.stderr.splitlines() if "error:" in line or "warning:" in line),
                    "does not compile",
                )
                yield Finding(header, 1, "headers", f"does not compile alone: {first.strip()}")
    print(f"tidy: {len(headers)} headers compiled alone")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--headers", nargs="?", const="", metavar="CXX", help="compile every header alone instead"
    )
    options = parser.parse_args()
    findings = list(
        check_tree(ROOT, load_layers(ROOT))
        if options.headers is None
        else check_headers(ROOT, options.headers)
    )
    for finding in findings:
        print(finding)
    print(f"tidy: {len(findings)} finding(s)" if findings else "tidy: the house rules hold")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
