"""Faults that tests switch on: which exchange meets which, and what they need. Their effects live where bytes are written."""

import itertools
import json

POISON = ("HTTP/1.1 200 OK\r\ncontent-length: 31\r\ncontent-type: application/json\r\n\r\n"
          '{"response":"not yours, ever!"}')
NONSENSE = "\x16\x03\x01 what is this? \x00\xff\xfe no protocol at all\r\n\r\nreally not\r\n"

# kind: {field: default}
KINDS = {
    "refuse": {"seconds": None},
    "hang": {},
    "hang_connect": {},
    "slow": {"delay_ms": 1000},
    "slow_first_token": {"delay_ms": 5000},
    "trickle": {"bytes": 1, "every_ms": 50},
    "reset": {"when": "request", "after": 3, "how": "rst"},
    "error": {"status": 500, "body": "Internal Server Error", "content_type": "text/plain; charset=utf-8", "headers": {}},
    "raw": {"bytes": "", "then": "close"},
    "garbage": {"bytes": NONSENSE, "then": "close"},
    "informational": {"bytes": "HTTP/1.1 103 Early Hints\r\n\r\n", "times": 1},
    "early_answer": {"status": 413, "body": "Request Entity Too Large", "close": False},
    "unsolicited": {"bytes": POISON, "when": "after", "delay_ms": 0},
    "both_lengths": {},
    "wrong_length": {"delta": 10},
    "bad_chunk": {"after": 3},
    "provider_error": {"status": 503},
    "provider_drop": {"after": 3},
    "silence": {"after": 3},
    "unterminated": {},
    "no_last_chunk": {},
}
CHOICES = {"when": {"reset": ("connect", "head", "request", "events", "idle"), "unsolicited": ("after", "connect")},
           "how": {"reset": ("rst", "fin")},
           "then": {"raw": ("keep", "close", "reset"), "garbage": ("keep", "close", "reset")}}
COMMON = {"kind", "match", "method", "count", "probability", "skip"}


class FaultError(ValueError):
    """A fault that was described wrongly; the text is for people."""


class Fault:
    def __init__(self, number, described):
        kind = described.get("kind")
        if kind not in KINDS:
            raise FaultError(f"kind: one of {', '.join(KINDS)} is expected, not {kind!r}")
        defaults = KINDS[kind]
        for name, value in described.items():
            if name in COMMON:
                continue
            if name not in defaults:
                raise FaultError(f"{kind}: no field {name!r}; it has {', '.join(defaults) or 'none of its own'}")
            allowed = CHOICES.get(name, {}).get(kind)
            if allowed and value not in allowed:
                raise FaultError(f"{kind}.{name}: one of {', '.join(allowed)} is expected, not {value!r}")
            default = defaults[name]
            if isinstance(default, bool) != isinstance(value, bool) or (
                    default is not None and not isinstance(value, (int, float) if isinstance(default, int) else type(default))):
                raise FaultError(f"{kind}.{name}: {value!r} is not of the kind of {default!r}")
        self.id = number
        self.kind = kind
        self.match = described.get("match", "chat")
        self.method = described.get("method")
        self.count = described.get("count")
        self.probability = described.get("probability", 1)
        self.skip = described.get("skip", 0)
        if not (self.match in ("chat", "all", "health") or str(self.match).startswith("/")):
            raise FaultError(f"match: chat, all, health or a path is expected, not {self.match!r}")
        for name in ("count", "skip"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise FaultError(f"{name}: a whole number is expected, not {value!r}")
        if isinstance(self.probability, bool) or not isinstance(self.probability, (int, float)) or not 0 <= self.probability <= 1:
            raise FaultError(f"probability: 0 ... 1 is expected, not {self.probability!r}")
        self.fields = {name: described.get(name, default) for name, default in defaults.items()}
        self.taken = 0

    def __getattr__(self, name):
        try:
            return self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(name) from None

    def matches(self, method, path):
        if self.method and self.method != method:
            return False
        if self.match == "all":
            return True
        if self.match == "chat":
            return path in ("/v1/chat", "/v1/chat/completions")
        if self.match == "health":
            return path.startswith("/health")
        return path.startswith(self.match)

    def shown(self):
        shown = {"id": self.id, "kind": self.kind, "match": self.match, "taken": self.taken, **self.fields}
        for name in ("method", "count", "skip"):
            if getattr(self, name):
                shown[name] = getattr(self, name)
        if self.probability != 1:
            shown["probability"] = self.probability
        return shown


class FaultBook:
    """The faults in force. `stage` says where an exchange stands: connect, head or request."""

    BOUND = 1000

    def __init__(self, rng):
        self.rng = rng
        self.faults = []
        self.numbers = itertools.count(1)

    def add(self, described):
        """All of a list, or none."""
        wanted = described if isinstance(described, list) else [described]
        if not all(isinstance(one, dict) for one in wanted):
            raise FaultError("a fault is an object with a kind, or a list of such")
        if len(self.faults) + len(wanted) > self.BOUND:
            raise FaultError(f"more than {self.BOUND} faults")
        made = [Fault(next(self.numbers), one) for one in wanted]
        self.faults += made
        return made

    def remove(self, number=None):
        self.faults = [] if number is None else [fault for fault in self.faults if fault.id != number]

    @staticmethod
    def stage_of(fault):
        if fault.kind == "refuse":
            return "listener"
        if fault.kind == "hang_connect" or (fault.kind in ("reset", "unsolicited") and fault.when == "connect"):
            return "connect"
        if fault.kind == "early_answer" or (fault.kind == "reset" and fault.when == "head"):
            return "head"
        return "request"

    def take(self, stage, method=None, path=None):
        for fault in self.faults:
            if self.stage_of(fault) != stage or (stage != "connect" and not fault.matches(method, path)):
                continue
            if fault.count is not None and fault.taken >= fault.count:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.probability < 1 and self.rng.random() >= fault.probability:
                continue
            fault.taken += 1
            return fault
        return None


def latin(text):
    """Bytes of a field that holds bytes."""
    return text.encode("latin-1", "replace") if isinstance(text, str) else json.dumps(text).encode()
