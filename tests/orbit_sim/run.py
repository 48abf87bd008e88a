#!/usr/bin/env python3
"""Tests of tools/orbit-sim. `run.py [WORD…]` runs those whose names hold a word. Last line: `N passed, N failed`."""

import importlib
import os
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import test_replay  # noqa: E402


class Report:
    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def __call__(self, title, error, took=None):
        with self.lock:
            if error is None:
                self.passed += 1
                return
            self.failed += 1
            print(f"FAILED {title}")
            text = str(error) if isinstance(error, AssertionError) and str(error) else \
                "".join(traceback.format_exception(error)).rstrip()
            print("  " + text.replace("\n", "\n  "))


def main():
    words = sys.argv[1:]
    report = Report()
    began = time.monotonic()
    if not words or any(word in "replay" for word in words):
        test_replay.run_replays(report)
    for file in sorted(os.listdir(HERE)):
        if not (file.startswith("test_") and file.endswith(".py")):
            continue
        module = importlib.import_module(file[:-3])
        for name, function in list(vars(module).items()):
            if name.startswith("test_") and callable(function):
                title = f"{file[5:-3]}: {name[5:].replace('_', ' ')}"
                if words and not any(word in title for word in words):
                    continue
                try:
                    function()
                    report(title, None)
                except Exception as error:
                    report(title, error)
    print(f"{time.monotonic() - began:.1f} s")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
