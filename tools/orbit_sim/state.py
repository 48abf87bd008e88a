"""What ORBIT keeps in its database: pause, sessions and their owners, history, files, feedback, prompts, reloads.

It is a log of events. Alone, an event is applied at once; with `--state FILE` every process appends its events to the
same file (one short O_APPEND write each) and applies what it reads there, its own included, in the file's order.
"""

import json
import os
import time

SESSIONS_KEPT = 100_000
TURNS_KEPT = 50  # of a session
FILES_KEPT = 1_000


class State:
    def __init__(self, path=""):
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644) if path else None
        self.offset = 0
        self.rest = b""
        self.forget()
        self.catch_up()

    def forget(self):
        self.paused = False
        self.owners = {}
        self.history = {}
        self.files = {}
        self.feedback = {}
        self.prompts = {}
        self.reloads = 0

    def record(self, **event):
        if self.descriptor is None:
            self.apply(event)
            return
        os.write(self.descriptor, json.dumps(event).encode() + b"\n")
        self.catch_up()

    def catch_up(self):
        """Applies what others (and we) have written. One fstat when nothing is new."""
        if self.descriptor is None:
            return
        size = os.fstat(self.descriptor).st_size
        while self.offset < size:
            data = os.pread(self.descriptor, min(size - self.offset, 1 << 20), self.offset)
            if not data:
                return
            self.offset += len(data)
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                self.apply(json.loads(line))

    def apply(self, event):
        kind = event["op"]
        if kind == "turn":
            self.owners.setdefault(event["session"], event["key"])
            turns = self.history.setdefault(event["session"], [])
            turns += event["messages"]
            del turns[:-TURNS_KEPT * 2]
            while len(self.owners) > SESSIONS_KEPT:
                oldest = next(iter(self.owners))
                del self.owners[oldest]
                self.history.pop(oldest, None)
        elif kind == "pause":
            self.paused = event["paused"]
        elif kind == "clear":
            self.history.pop(event["session"], None)
            self.owners.pop(event["session"], None)
        elif kind == "file":
            self.files[event["file"]["file_id"]] = event["file"]
            while len(self.files) > FILES_KEPT:
                del self.files[next(iter(self.files))]
        elif kind == "unfile":
            self.files.pop(event["id"], None)
        elif kind == "feedback":
            votes = self.feedback.setdefault(event["session"], {})
            if event["vote"] is None:
                votes.pop(event["message"], None)
            else:
                votes[event["message"]] = event["vote"]
        elif kind == "prompt":
            self.prompts[event["id"]] = event["text"]
        elif kind == "reload":
            self.reloads += 1
        elif kind == "forget":
            self.forget()


def iso(when=None, zone="+00:00"):
    """2026-11-23T08:35:28.342249 and a zone, as ORBIT writes times."""
    when = time.time() if when is None else when
    micro = int(when * 1e6) % 1_000_000
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{micro:06d}{zone}"
