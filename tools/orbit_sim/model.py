"""The virtual event loop and the life of a chat on it: pure, time is passed in, nothing here knows a socket.

A worker is one serial loop. Ready tasks are served in turn, in pieces of `quantum`; a piece is a span of virtual
time in which nothing else happens. A chat takes `head` of CPU, shows its head, takes the rest of `work`, takes one
of the provider's connections (or waits for one, invisibly), waits for the provider without CPU, and then has one
token after another: the next is due a gap after the last was *due*, and cheaper when the loop is crowded.

Times are seconds as floats on the caller's clock. `advance(until)` runs everything that ends by then, in order.
"""

import heapq
import itertools
from collections import deque

NEVER = float("inf")
TOKEN = -1.0  # CPU of a task whose cost is settled when its turn comes
SPENT = 1e-9  # what floating point may leave over


class Task:
    """`left` = CPU still to be spent; `spent(loop)` is called when it is, `wake(loop)` when its timer fires."""

    __slots__ = ("left", "whole")

    def __init__(self, cpu=0.0, whole=False):
        self.left = cpu
        self.whole = whole  # one piece however long: a pause of the whole world

    def spent(self, loop):
        pass

    def wake(self, loop):
        loop.make_ready(self)


class VirtualLoop:
    def __init__(self, settings, now=0.0):
        self.settings = settings
        self.now = now
        self.ready = deque()
        self.running = None
        self.end = NEVER  # when the running piece ends
        self.piece = 0.0
        self.timers = []
        self.order = 0
        self.busy = 0.0         # CPU spent since `since`
        self.busy_before = 0.0  # and before that
        self.since = now

    def at(self, when, task):
        self.order += 1
        heapq.heappush(self.timers, (when, self.order, task))

    def make_ready(self, task):
        if self.running is None:
            self.start(task)
        else:
            self.ready.append(task)

    def stop_the_world(self, seconds):
        pause = Task(seconds, whole=True)
        if self.running is None:
            self.start(pause)
        else:
            self.ready.appendleft(pause)

    def start(self, task):
        left = task.left
        settings = self.settings
        if left == TOKEN:
            crowded = len(self.ready) > settings.busy_tasks
            piece = (settings.token_busy_ms if crowded else settings.token_ms) * 1e-3
        else:
            quantum = settings.quantum_ms * 1e-3
            piece = left if left <= quantum or task.whole else quantum
        self.piece = piece
        self.running = task
        self.end = self.now + piece

    def next_time(self):
        """Nothing can be seen from outside before this: a lower bound, so that the driver need not wake for every piece.

        A timer only makes a task ready; what it leads to takes at least a token's CPU. A piece that is not the last of
        its task shows nothing. Arrivals bring the loop up to date first, so late waking never changes what happens.
        """
        token = min(self.settings.token_busy_ms, self.settings.token_ms) * 1e-3
        first = self.timers[0][0] if self.timers else NEVER
        task = self.running
        if task is None:
            return first + token
        when = self.end
        if task.left == TOKEN or task.left - self.piece <= SPENT:
            return when
        if not self.ready:
            return min(when + task.left - self.piece, max(first, when) + token)
        quantum = self.settings.quantum_ms * 1e-3
        for other in itertools.islice(self.ready, 8):
            left = other.left
            if left == TOKEN:
                return when + token
            if left <= quantum or other.whole:
                return when + left
            when += quantum
        return when

    def advance(self, until):
        timers = self.timers
        ready = self.ready
        while True:
            if timers and timers[0][0] < self.end:
                if timers[0][0] > until:
                    break
                when, _, task = heapq.heappop(timers)
                if when > self.now:
                    self.now = when
                task.wake(self)
                continue
            if self.end > until:
                break
            self.now = self.end
            self.busy += self.piece
            task = self.running
            if task.left == TOKEN:
                task.spent(self)
            else:
                task.left -= self.piece
                if task.left > SPENT:
                    ready.append(task)
                else:
                    task.left = 0.0
                    task.spent(self)
            if ready:
                self.start(ready.popleft())
            else:
                self.running = None
                self.end = NEVER


    def shown(self, now):
        span = max(now - self.since, 1e-6)
        return {"busy_fraction": round(min(self.busy / span, 1.0), 4), "ready_now": len(self.ready),
                "lag_ms": round(sum(min(t.left, 5e-3) if t.left > 0 else 0.55e-3 for t in self.ready) * 1e3, 2)}

    @property
    def busy_in_all(self):
        return self.busy_before + self.busy

    def reset_busy(self, now):
        self.busy_before += self.busy
        self.busy = 0.0
        self.since = now


class Provider:
    """The worker's connections to its model provider: a bounded number, waiters in order of arrival."""

    def __init__(self, settings, rng):
        self.settings = settings
        self.rng = rng
        self.busy = 0
        self.peak = 0
        self.waiting = deque()

    def take(self, loop, chat):
        bound = self.settings.provider_connections
        if bound and self.busy >= bound:
            self.waiting.append(chat)
        else:
            self.grant(loop, chat)

    def grant(self, loop, chat):
        self.busy += 1
        if self.busy > self.peak:
            self.peak = self.busy
        chat.provider_begins(loop)

    def give_back(self, loop):
        self.busy -= 1
        self.pump(loop)

    def pump(self, loop):
        """After a return, or a raised bound."""
        bound = self.settings.provider_connections
        while self.waiting and (not bound or self.busy < bound):
            self.grant(loop, self.waiting.popleft())

    def delay(self):
        low, high = self.settings.provider_low, self.settings.provider_high
        return low if low == high else self.rng.uniform(low, high)


class Release(Task):
    """The provider goes on after a stop: its connection comes back when it would have ended."""

    __slots__ = ("provider",)

    def __init__(self, provider):
        super().__init__()
        self.provider = provider

    def wake(self, loop):
        self.provider.give_back(loop)


HEAD, REST, WAITING, TOKENS, SILENT, DONE = range(6)  # SILENT: the provider said nothing more, and never will


class Chat(Task):
    """One chat. Subclasses say what is written: `show_head`, `show_token`, `show_end`, `show_answer`.

    `tokens`, `gap`, `first` (None = the provider's own delay) are the provider's side of it. A non-streamed chat
    shows nothing until the provider is done and never notices that its client went away.
    """

    __slots__ = ("provider", "phase", "rest", "stream", "tokens", "gap", "first", "due", "sent", "gone", "stopped",
                 "stalled", "arriving", "arrived", "held")

    def __init__(self, provider, head, work, tokens, gap, first, stream):
        super().__init__(min(head, work) if stream else work)
        self.provider = provider
        self.phase = HEAD if stream else REST
        self.rest = max(work - head, 0.0) if stream else 0.0
        self.stream = stream
        self.tokens = tokens
        self.gap = gap
        self.first = first
        self.due = 0.0
        self.arriving = 0.0
        self.arrived = 0
        self.held = 0          # tokens that came while stalled
        self.sent = 0
        self.gone = False      # the client left
        self.stopped = False   # POST /v1/chat/stop
        self.stalled = False   # the client does not read: waits in `resume`

    def spent(self, loop):
        phase = self.phase
        if phase == TOKENS:
            self.token_spent(loop)
        elif phase == HEAD:
            self.phase = REST
            self.left = self.rest
            if not self.show_head(loop):
                self.phase = DONE
            elif self.left > SPENT:
                loop.ready.append(self)
            else:
                self.spent(loop)
        elif phase == REST:
            self.phase = WAITING
            self.provider.take(loop, self)
        # else: tokens that were on their way when the chat ended

    def provider_begins(self, loop):
        self.phase = TOKENS
        self.left = TOKEN
        delay = self.provider.delay() if self.first is None else self.first
        self.due = loop.now + delay + (0.0 if self.stream else max(self.tokens - 1, 0) * self.gap)
        self.arriving = self.due
        loop.at(self.due, self)

    def wake(self, loop):
        """The provider's next token is here; the one after it comes when it comes, however late this one is sent."""
        if self.phase != TOKENS:
            return
        self.arrived += 1
        if self.stream and self.arrived < self.tokens:
            self.arriving += self.gap
            loop.at(self.arriving, self)
        if self.stalled:
            self.held += 1
        else:
            loop.make_ready(self)

    def token_spent(self, loop):
        if not self.stream:
            self.finish(loop)
            self.show_answer(loop)
            return
        if self.gone:
            self.finish(loop)
            self.show_end(loop)
            return
        if self.stopped:
            self.phase = DONE
            loop.at(max(loop.now, self.arriving + (self.tokens - self.arrived - 1) * self.gap), Release(self.provider))
            self.show_end(loop)
            return
        more = self.show_token(loop)
        if self.phase == SILENT:
            return
        self.sent += 1
        self.due += self.gap
        if not more or self.sent >= self.tokens:
            self.finish(loop)
            self.show_end(loop)

    def resume(self, loop):
        """The client reads again (or has left): go on where `stalled` left off."""
        self.stalled = False
        held, self.held = self.held, 0
        for _ in range(held):
            loop.make_ready(self)

    def left_alone(self, loop):
        """The client is gone. A stream notices at its next token, a non-stream never does."""
        self.gone = True
        if self.phase == SILENT:
            self.finish(loop)
            self.show_end(loop)
        else:
            self.resume(loop)

    def finish(self, loop):
        self.phase = DONE
        self.provider.give_back(loop)

    def show_head(self, loop):
        """False: the chat ends here (refused at the door)."""
        return True

    def show_token(self, loop):
        """False: this was the last one."""
        return True

    def show_end(self, loop):
        pass

    def show_answer(self, loop):
        pass
