"""Maps the virtual loop on real time: one timer of asyncio's, armed for whatever happens next."""

import time

NEVER = float("inf")


class Driver:
    """`clock` is asyncio's own (monotonic seconds). `now` is the real time of the batch in progress."""

    def __init__(self, virtual, event_loop):
        self.virtual = virtual
        self.event_loop = event_loop
        self.clock = time.monotonic
        self.now = self.clock()
        self.timer = None
        self.armed = NEVER
        self.inside = False

    def advance(self):
        """Runs what is due. Not to be called from inside the virtual world; the others below may be."""
        self.now = self.clock()
        self.inside = True
        try:
            self.virtual.advance(self.now)
        finally:
            self.inside = False
        self.arm()

    def enter(self, act, *arguments):
        """Lets something from outside happen now, after all that was due before it."""
        virtual = self.virtual
        if self.inside:
            act(*arguments)
            return
        self.now = self.clock()
        self.inside = True
        try:
            virtual.advance(self.now)
            if self.now > virtual.now:
                virtual.now = self.now
            act(*arguments)
            virtual.advance(self.now)
        finally:
            self.inside = False
        self.arm()

    def arrive(self, task):
        self.enter(self.virtual.make_ready, task)

    def later(self, seconds, task):
        """Wakes the task after a delay that costs nothing."""
        self.enter(self.virtual.at, self.clock() + seconds, task)

    def resume(self, chat):
        self.enter(chat.resume, self.virtual)

    def stop_the_world(self, seconds):
        self.enter(self.virtual.stop_the_world, seconds)

    def arm(self):
        when = self.virtual.next_time()
        if when == self.armed:
            return
        if self.timer is not None:
            if self.armed <= when < self.armed + 0.0005:
                return  # close enough: the batch that comes first re-arms
            self.timer.cancel()
            self.timer = None
        self.armed = when
        if when != NEVER:
            self.timer = self.event_loop.call_at(when, self.fire)

    def fire(self):
        self.timer = None
        self.armed = NEVER
        self.advance()
