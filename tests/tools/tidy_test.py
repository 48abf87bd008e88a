#!/usr/bin/env python3
"""tools/tidy.py sees what it should: per rule, samples that it must refuse and neighbours that it must accept."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.dont_write_bytecode = True
import tidy  # noqa: E402

LAYERS = {
    "rooms": {
        "base": {"row": 0},
        "coro": {"row": 1},
        "net": {"row": 2},
        "http": {"row": 3},
        "admission": {"row": 4},
        "balancing": {"row": 4},
        "dispatch": {"row": 5},
        "health": {"row": 5},
        "proxy": {"row": 6, "below": 5, "also": ["dispatch"]},
        "app": {"row": 8},
    },
    "libraries": {"uv.h": ["net"], "llhttp.h": ["http"], "prometheus/": ["app"]},
    "allowed": {
        "clock": ["src/base/system_clock.cpp", "src/net/"],
        "random": [],
        "environment": ["src/app/"],
        "co_await": ["tests/coro/compiler_traps_test.cpp"],
    },
}

# path, text, rules that must fire (in order)
CASES = [
    # includes: down, never up or sideways; private headers stay private; libraries have a door.
    ("src/net/a.cpp", '#include "perigee/coro/task.h"\n#include "perigee/net/loop.h"\n', []),
    ("src/net/a.cpp", '#include "perigee/http/parser.h"\n', ["includes"]),
    ("src/net/a.cpp", "#  include <perigee/http/parser.h>\n", ["includes"]),
    ("include/perigee/admission/a.h", '#include "perigee/balancing/picker.h"\n', ["includes"]),
    (
        "src/proxy/a.cpp",
        '#include "perigee/dispatch/dispatcher.h"\n#include "perigee/admission/lanes.h"\n',
        [],
    ),
    ("src/proxy/a.cpp", '#include "perigee/health/prober.h"\n', ["includes"]),
    ("src/health/a.cpp", '#include "perigee/dispatch/dispatcher.h"\n', ["includes"]),
    ("src/app/a.cpp", '#include "perigee/health/prober.h"\n#include "perigee/proxy/x.h"\n', []),
    ("src/proxy/a.cpp", '#include "../http/table.h"\n', ["includes"]),
    ("src/http/a.cpp", '#include "table.h"\n#include "deep/table.h"\n', []),
    ("src/http/a.cpp", '#include "../../tests/http/support.h"\n', ["includes"]),
    ("tests/http/a_test.cpp", '#include "../../src/http/table.h"\n#include "../support.h"\n', []),
    ("tests/http/a_test.cpp", '#include "perigee/proxy/x.h"\n', ["includes"]),
    ("src/net/a.cpp", '// #include "perigee/http/parser.h"\n/* #include "perigee/app/x.h" */\n', []),
    ("src/net/a.cpp", '#include "perigee/nowhere/x.h"\n', ["includes"]),
    ("src/cellar/a.cpp", "int x;\n", ["includes"]),
    ("src/coro/a.cpp", "#include <uv.h>\n", ["includes"]),
    ("src/net/a.cpp", "#include <uv.h>\n", []),
    ("src/http/a.cpp", "#include <llhttp.h>\n#include <prometheus/registry.h>\n", ["includes"]),
    # co_await: the four forms …
    ("src/x.cpp", "void f() { co_await g(); }", []),
    ("src/x.cpp", "void f() { (void)co_await g(); if (a) (void)co_await g(); }", []),
    ("src/x.cpp", "void f() { static_cast<void>(co_await g()); }", ["co_await"]),
    ("src/x.cpp", "void f() { const bool yes = co_await g(a, b); }", []),
    ("src/x.cpp", "void f() { Result<std::pair<int, int>> r = co_await g<int, long>(a, b); }", []),
    ("src/x.cpp", "void f() { auto&& r = co_await g(); [[maybe_unused]] auto s = co_await g(); }", []),
    ("src/x.cpp", "void f() { this->a_[i].b = co_await std::move(task); }", []),
    ("src/x.cpp", 'auto f() -> Task<int> { co_return co_await g(h(1), "a;b{"); }', []),
    ("src/x.cpp", "void f() { if (a) co_await g(); else v = co_await g(); for (;;) { co_await g(); } }", []),
    (
        "src/x.cpp",
        "void f() { switch (a) { case A::b: co_await g(); break; default: v = co_await g(); } }",
        [],
    ),
    ("src/x.cpp", "auto l = []() -> Task<void> { co_await g(); };", []),
    ("src/x.cpp", "TEST(x) { run([&](Loop& loop) -> Task<void> { co_await g(loop); }); }", ["co_await"]),
    ("tests/x_test.cpp", "TEST(x) { run([&](Loop& loop) -> Task<void> { co_await g(loop); }); }", []),
    ("src/x.cpp", "Awaiter operator co_await() const; // co_await is (co_await x) here\n", []),
    ("src/x.cpp", 'const char* s = "if (co_await x)"; const char* r = R"(f(co_await y))";', []),
    ("src/x.cpp", "void f() { x = 1'000; co_await g('{', ';'); }", []),
    # … and what g++ 12 breaks, one by one.
    ("src/x.cpp", "void f() { if (co_await g()) h(); }", ["co_await"]),
    ("src/x.cpp", "void f() { if (!co_await g()) h(); }", ["co_await"]),
    ("src/x.cpp", "void f() { while (co_await g()) h(); }", ["co_await"]),
    ("src/x.cpp", "void f() { if (auto x = co_await g(); x) h(); }", ["co_await"]),
    ("src/x.cpp", "void f() { for (auto x = co_await g(); x; --x) h(); }", ["co_await"]),
    ("src/x.cpp", "void f() { do { } while (co_await g()); }", ["co_await"]),
    ("src/x.cpp", "void f() { switch (co_await g()) { } }", ["co_await"]),
    ("src/x.cpp", "void f() { co_await g(Opts{.a = s}); }", ["co_await"]),
    ("src/x.cpp", "void f() { co_await g({x, y}); }", ["co_await"]),
    ("src/x.cpp", "void f() { co_await Obj{}.method(); }", ["co_await"]),
    ("src/x.cpp", "void f() { co_await []() -> Task<int> { co_return 1; }(); }", ["co_await"]),
    ("src/x.cpp", "void f() { T a[2] = {1, co_await g()}; }", ["co_await"]),
    ("src/x.cpp", "void f() { auto a = std::array<T, 2>{co_await g(), 1}; }", ["co_await"]),
    ("src/x.cpp", "void f() { Agg a{.x = co_await g()}; }", ["co_await"]),
    ("src/x.cpp", "void f() { Agg a{co_await g()}; }", ["co_await"]),
    ("src/x.cpp", "void f() { auto [a, b] = co_await g(); }", ["co_await"]),
    ("src/x.cpp", "void f() { auto& [a, b] = co_await g(); }", ["co_await"]),
    ("tests/x_test.cpp", "void f() { CHECK(co_await g()); }", ["co_await"]),
    ("tests/x_test.cpp", "void f() { REQUIRE((co_await g()).has_value()); }", ["co_await"]),
    ("src/x.cpp", "void f() { CO_TRY(auto x, co_await g()); }", ["co_await"]),
    ("src/x.cpp", "void f() { h(co_await g()); }", ["co_await"]),
    ("src/x.cpp", "void f() { int x = a && co_await g(); }", ["co_await"]),
    ("src/x.cpp", "void f() { int x = a ? co_await g() : 0; }", ["co_await"]),
    ("src/x.cpp", "void f() { int x = co_await g() ? 1 : 0; }", ["co_await"]),
    ("src/x.cpp", "void f() { int x = co_await g() + 1; }", ["co_await"]),
    ("src/x.cpp", "void f() { total += co_await g(); }", ["co_await"]),
    ("src/x.cpp", "void f() { co_await g(), co_await h(); }", ["co_await", "co_await"]),
    ("src/x.cpp", "void f() { co_return !co_await g(); }", ["co_await"]),
    ("src/x.cpp", "void f() { co_await co_await g(); }", ["co_await"]),
    ("src/x.cpp", "auto f() { return [x]() -> Task<int> { co_return x; }; }", ["co_await"]),
    ("src/x.cpp", "auto f() { return [this](int a) -> coro::Task<int> { co_return a; }; }", ["co_await"]),
    ("tests/coro/compiler_traps_test.cpp", "void f() { if (co_await g()) h(); }", []),
    # clock, random, environment
    ("src/http/a.cpp", "auto t = std::chrono::steady_clock::now();", ["clock"]),
    ("src/http/a.cpp", "auto t = std::chrono::system_clock::now();", ["clock"]),
    ("src/http/a.cpp", "clock_gettime(CLOCK_MONOTONIC, &ts);", ["clock"]),
    ("src/http/a.cpp", "auto t = time(nullptr);", ["clock"]),
    ("src/http/a.cpp", "auto t = std::time(&x);", ["clock"]),
    ("src/http/a.cpp", "std::this_thread::sleep_for(1s);", ["clock"]),
    ("src/http/a.cpp", "usleep(5);", ["clock"]),
    ("src/http/a.cpp", "::sleep(5);", ["clock"]),
    ("src/http/a.cpp", "auto t = uv_now(loop);", ["clock"]),
    ("src/http/a.cpp", "auto t = clock.now(); co_await sleep(1s); // never steady_clock::now()\n", []),
    ("src/http/a.cpp", "record.time(0); void response_time(int);", []),
    ("src/net/a.cpp", "auto t = uv_now(loop);", []),
    ("src/base/system_clock.cpp", "auto t = std::chrono::steady_clock::now();", []),
    ("src/http/a.cpp", "int x = rand();", ["random"]),
    ("src/http/a.cpp", "auto x = ::random();", ["random"]),
    ("src/http/a.cpp", "std::random_device d;", ["random"]),
    ("src/http/a.cpp", "std::mt19937_64 engine(1);", ["random"]),
    ("src/http/a.cpp", "rng.rand(); operand(1); int random = 3; Rng random(seed);", []),
    ("src/http/a.cpp", 'auto v = std::getenv("HOME");', ["environment"]),
    ("src/app/a.cpp", 'auto v = std::getenv("HOME");', []),
    # hosts, in any kind of file
    ("docs/x.md", "pip install -i https://" + ".".join(("pypi", "org")) + "/simple x", ["hosts"]),
    ("tools/x", "deb http://" + ".".join(("deb", "debian", "org")) + "/debian bookworm main", ["hosts"]),
    (
        "tools/x",
        "deb http://" + ".".join(("ftp", "de", "debian", "org")) + "/debian bookworm main",
        ["hosts"],
    ),
    ("tools/x", "FROM " + ".".join(("ghcr", "io")) + "/a/b", ["hosts"]),
    ("tools/x", "curl https://" + ".".join(("mirror", "example", "org")) + "/x", ["hosts"]),
    ("README.md", "see /" + "work/main/x and /" + "root/x", ["hosts", "hosts"]),
    (
        "README.md",
        "https://github.com/nodejs/llhttp, /proc/self, a network/address, pip install httptools",
        [],
    ),
]


def main():
    passed, failed = 0, 0
    for path, text, expected in CASES:
        findings = list(tidy.check_file(path, text, LAYERS))
        if [finding.rule for finding in findings] == expected:
            passed += 1
        else:
            failed += 1
            print(f"FAILED {path}: {text!r}\n  expected {expected}, got {[str(f) for f in findings]}")

    # A finding says where: the line of the include, and of the await, in a file with comments and literals
    # before them.
    where = tidy.check_file(
        "src/net/a.cpp", '/*\n\n*/\n#include "perigee/http/x.h"\nR"(\n)"; f(\nco_await g());', LAYERS
    )
    lines = [finding.line for finding in where]
    # The repository's own table: every room has a row, and what is named in it exists in it.
    layers = tidy.load_layers(tidy.ROOT)
    named = {room for rule in layers["rooms"].values() for room in rule.get("also", [])}
    named |= {room for doors in layers["libraries"].values() for room in doors}
    # A header that leans on its users is found; one that stands alone is not.
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "include" / "perigee" / "base").mkdir(parents=True)
        (root / "include" / "perigee" / "base" / "good.h").write_text(
            "#pragma once\n#include <string>\nstd::string f();\n"
        )
        (root / "include" / "perigee" / "base" / "bad.h").write_text("#pragma once\nstd::string g();\n")
        headers = [finding.path for finding in tidy.check_headers(root, "")]
    for name, truth in [
        ("lines", lines == [4, 7]),
        ("table", named <= set(layers["rooms"])),
        ("headers", headers == ["include/perigee/base/bad.h"]),
    ]:
        passed, failed = passed + truth, failed + (not truth)
        if not truth:
            print(f"FAILED {name}: {lines} {headers}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
