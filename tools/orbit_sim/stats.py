"""Counters and histograms. One list index per sample: cheap enough for every token."""


class Histogram:
    """Delays in seconds, 1 ms wide bins up to 60 s; what is longer falls into the last bin, max stays exact."""

    BINS = 60_001
    __slots__ = ("bins", "count", "total", "top")

    def __init__(self):
        self.clear()

    def clear(self):
        self.bins = None
        self.count = 0
        self.total = 0.0
        self.top = 0.0

    def add(self, seconds):
        if self.bins is None:
            self.bins = [0] * self.BINS
        if seconds < 0.0:
            seconds = 0.0
        self.count += 1
        self.total += seconds
        if seconds > self.top:
            self.top = seconds
        at = int(seconds * 1000.0)
        self.bins[at if at < self.BINS else -1] += 1

    def quantiles_ms(self, fractions):
        """Upper edges of the bins that hold the wanted ranks, never above the maximum."""
        found = []
        wanted = sorted(fractions)
        seen = 0
        last_ms = round(self.top * 1000.0, 3)
        if self.count:
            for at, hits in enumerate(self.bins[:int(self.top * 1000.0) + 1] if self.top < 60 else self.bins):
                if hits:
                    seen += hits
                    while len(found) < len(wanted) and seen >= wanted[len(found)] * self.count:
                        found.append(min(float(at + 1), last_ms))
                    if len(found) == len(wanted):
                        break
        return found + [last_ms] * (len(wanted) - len(found))

    def shown(self, buckets=False):
        p50, p90, p95, p99 = self.quantiles_ms((0.5, 0.9, 0.95, 0.99))
        answer = {"count": self.count, "mean_ms": round(self.total / self.count * 1000.0, 3) if self.count else 0.0,
                  "p50_ms": p50, "p90_ms": p90, "p95_ms": p95, "p99_ms": p99, "max_ms": round(self.top * 1000.0, 3)}
        if buckets:
            answer["buckets"] = [[at + 1, hits] for at, hits in enumerate(self.bins or ()) if hits]
        return answer


HISTOGRAMS = ("token_delay", "token_delay_model", "head_lag", "health_delay", "first_token", "chat_time", "write_lag")
COUNTERS = ("connections", "requests", "chats_started", "chats_finished", "chats_aborted", "chats_wasted",
            "chats_stopped", "chats_failed", "chats_refused", "tokens", "pauses", "overlapping_turns", "malformed",
            "faults")
SECONDS_KEPT = 600


class Stats:
    """`*_now` gauges survive a reset; peaks start again from the present value."""

    def __init__(self, now):
        self.connections_now = 0
        self.chats_now = 0
        for name in HISTOGRAMS:
            setattr(self, name, Histogram())
        self.provider = None  # the Provider of the model, set by the worker
        self.reset(now)

    def reset(self, now):
        self.since = now
        self.chats_peak = self.chats_now
        for name in COUNTERS:
            setattr(self, name, 0)
        for name in HISTOGRAMS:
            getattr(self, name).clear()
        if self.provider is not None:
            self.provider.peak = self.provider.busy
        self.seconds = []
        self.marks = (0, 0, 0)

    def chat_begins(self):
        self.chats_started += 1
        self.chats_now += 1
        if self.chats_now > self.chats_peak:
            self.chats_peak = self.chats_now

    def tick(self, now):
        """Once a second: what happened in it."""
        marks = (self.chats_started, self.chats_finished, self.tokens)
        started, finished, tokens = (new - old for new, old in zip(marks, self.marks))
        self.marks = marks
        self.seconds.append({"t": round(now - self.since, 1), "started": started, "finished": finished,
                             "tokens": tokens, "chats_now": self.chats_now, "provider_now": self.provider.busy})
        if len(self.seconds) > SECONDS_KEPT:
            del self.seconds[:len(self.seconds) - SECONDS_KEPT]

    def shown(self, now, loop, buckets=False):
        counts = {name: getattr(self, name) for name in COUNTERS}
        counts.update(connections_now=self.connections_now, chats_now=self.chats_now, chats_peak=self.chats_peak,
                      provider_now=self.provider.busy, provider_peak=self.provider.peak,
                      provider_waiting=len(self.provider.waiting))
        return {"seconds": round(now - self.since, 3), "counts": counts, "loop": loop,
                "histograms": {name: getattr(self, name).shown(buckets) for name in HISTOGRAMS},
                "per_second": self.seconds}
