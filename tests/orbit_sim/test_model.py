"""The virtual loop alone, on a clock moved by hand: what a chat costs, who waits, and the loads the model is known by."""

import random
from collections import deque

import support  # noqa: F401  puts tools/ on the path
from orbit_sim.model import SILENT, Chat, Provider, Task, VirtualLoop
from orbit_sim.settings import Settings
from orbit_sim.stats import Histogram


class Seen(Chat):
    """Writes down what would be written."""

    __slots__ = ("log", "name")

    def __init__(self, world, name="c", work=0.032, tokens=3, gap=0.05, first=0.03, stream=True):
        super().__init__(world.provider, 0.010, work, tokens, gap, first, stream)
        self.log = world.log
        self.name = name

    def note(self, what, loop):
        self.log.append((self.name, what, round(loop.now, 5)))

    def show_head(self, loop):
        self.note("head", loop)
        return True

    def show_token(self, loop):
        self.note("token", loop)
        return True

    def show_end(self, loop):
        self.note("end", loop)

    def show_answer(self, loop):
        self.note("answer", loop)


class Probe(Task):
    __slots__ = ("log",)

    def __init__(self, world):
        super().__init__(0.001)
        self.log = world.log

    def spent(self, loop):
        self.log.append(("probe", "answer", round(loop.now, 5)))


class World:
    def __init__(self, **settings):
        self.settings = Settings({"provider_delay_ms": "30", **settings})
        self.loop = VirtualLoop(self.settings)
        self.provider = Provider(self.settings, random.Random(42))
        self.log = []

    def at(self, name, what):
        return [when for who, did, when in self.log if (who, did) == (name, what)]


def test_a_lone_chat_takes_its_time_and_no_more():
    world = World()
    world.loop.make_ready(Seen(world))
    world.loop.advance(10)
    assert world.at("c", "head") == [0.010]
    # 32 ms of CPU, 30 ms of provider, 1.5 ms a token; due every 50 ms
    assert world.at("c", "token") == [0.0635, 0.1135, 0.1635]
    assert world.at("c", "end") == [0.1635]
    assert world.provider.busy == 0


def test_ready_tasks_have_their_turns_in_pieces_of_5_ms():
    world = World()
    for name in "ab":
        world.loop.make_ready(Seen(world, name))
    world.loop.make_ready(Probe(world))
    world.loop.advance(10)
    assert world.at("probe", "answer") == [0.011]
    assert world.at("a", "head") == [0.016] and world.at("b", "head") == [0.021]


def test_heads_of_simultaneous_starts_come_nearly_together():
    world = World()
    for number in range(20):
        world.loop.make_ready(Seen(world, str(number)))
    world.loop.advance(10)
    heads = [world.at(str(number), "head")[0] for number in range(20)]
    assert heads[-1] <= 0.2001 and heads[-1] - heads[0] < 0.1
    assert min(when for _, what, when in world.log if what == "token") > heads[-1]


def test_a_token_is_cheaper_in_a_crowd_and_its_due_time_does_not_slip():
    world = World(token_ms=10, token_busy_ms=5, busy_tasks=1)
    for name in "abc":
        world.loop.make_ready(Seen(world, name, work=0.0, tokens=2, first=0.0, gap=0.001))
    world.loop.advance(10)
    # a runs alone-ish first; while three wait a token costs 5 ms, the last ones cost 10 again
    times = sorted(when for _, what, when in world.log if what == "token")
    assert len(times) == 6 and times[-1] < 0.05, times
    assert abs((times[-1] - times[-2]) - 0.010) < 1e-6


def test_beyond_the_providers_connections_a_chat_has_its_head_and_waits():
    world = World(provider_connections=2)
    for name in "abc":
        world.loop.make_ready(Seen(world, name))
    world.loop.advance(0.12)
    assert world.at("c", "head") and not world.at("c", "token")
    assert world.provider.busy == 2 and len(world.provider.waiting) == 1
    world.loop.advance(10)
    assert len(world.at("c", "token")) == 3 and world.provider.busy == 0 and world.provider.peak == 2
    assert world.at("c", "token")[0] > world.at("a", "end")[0]


def test_a_raised_bound_lets_waiters_go():
    world = World(provider_connections=1)
    for name in "ab":
        world.loop.make_ready(Seen(world, name, tokens=20))
    world.loop.advance(0.5)
    assert not world.at("b", "token")
    world.settings.provider_connections = 2
    world.provider.pump(world.loop)
    world.loop.advance(0.6)
    assert world.at("b", "token") and world.provider.busy == 2


def test_a_pause_stops_everything():
    world = World()
    world.loop.make_ready(Seen(world))
    world.loop.advance(0.002)
    world.loop.stop_the_world(0.4)
    world.loop.make_ready(Probe(world))
    world.loop.advance(10)
    assert world.at("probe", "answer")[0] >= 0.405
    assert world.at("c", "head") == [0.411]  # the running piece, the pause, the probe, the second piece


def test_stop_ends_at_the_next_token_and_the_provider_goes_on():
    world = World()
    chat = Seen(world, tokens=10)
    world.loop.make_ready(chat)
    world.loop.advance(0.12)
    chat.stopped = True
    world.loop.advance(0.2)
    assert len(world.at("c", "token")) == 2 and world.at("c", "end") == [0.1635]
    assert world.provider.busy == 1
    world.loop.advance(0.51)
    assert world.provider.busy == 1, "it would have ended at 0.512"
    world.loop.advance(0.52)
    assert world.provider.busy == 0


def test_a_client_that_left_frees_the_provider_at_the_next_token():
    world = World()
    chat = Seen(world, tokens=10)
    world.loop.make_ready(chat)
    world.loop.advance(0.12)
    chat.left_alone(world.loop)
    assert world.provider.busy == 1
    world.loop.advance(0.17)
    assert world.provider.busy == 0 and len(world.at("c", "token")) == 2


def test_a_non_stream_runs_to_its_end_whoever_left():
    world = World()
    chat = Seen(world, tokens=3, stream=False)
    world.loop.make_ready(chat)
    world.loop.advance(0.02)
    chat.left_alone(world.loop)
    world.loop.advance(10)
    assert world.log == [("c", "answer", 0.1635)] and world.provider.busy == 0


def test_a_silent_provider_holds_its_connection_until_the_client_leaves():
    world = World()

    class Silent(Seen):
        __slots__ = ()

        def show_token(self, loop):
            if self.sent == 1:
                self.phase = SILENT
            return super().show_token(loop)

    chat = Silent(world, tokens=5)
    world.loop.make_ready(chat)
    world.loop.advance(10)
    assert world.provider.busy == 1
    chat.left_alone(world.loop)
    assert world.provider.busy == 0


def test_a_stalled_reader_gets_its_tokens_later():
    world = World()
    chat = Seen(world, tokens=4)
    world.loop.make_ready(chat)
    world.loop.advance(0.07)
    chat.stalled = True
    world.loop.advance(1.0)
    assert len(world.at("c", "token")) == 1
    world.loop.now = 1.0
    chat.resume(world.loop)
    world.loop.advance(2.0)
    assert len(world.at("c", "token")) == 4 and world.provider.busy == 0


def test_nothing_visible_happens_before_the_time_to_wake():
    for seed in range(20):
        rng = random.Random(seed)
        world = World(provider_delay_ms="1-200", provider_connections=rng.choice((3, 100)))
        arrivals = deque(sorted((rng.uniform(0, 2), rng.random() < 0.3) for _ in range(60)))
        now = 0.0
        while arrivals or world.loop.next_time() < 1e9:
            wake = world.loop.next_time()
            if arrivals and arrivals[0][0] < wake:
                now, probe = arrivals.popleft()
                world.loop.advance(now)
                world.loop.now = max(world.loop.now, now)
                world.loop.make_ready(Probe(world) if probe else Seen(world, first=None, tokens=5, gap=0.02))
                continue
            before = len(world.log)
            world.loop.advance(wake)
            now = wake
            for _, _, when in world.log[before:]:
                assert when >= wake - 2e-5, (seed, when, wake)
        assert world.provider.busy == 0 and world.loop.running is None


def offered(rate, work, tokens, gap, seconds, slots, first=None, seed=42):
    """(served a second, p95 token delay) of one worker behind a gate of `slots`, over the second half."""
    world = World(provider_delay_ms="300-3000")
    delays, waiting, rng = Histogram(), deque(), random.Random(seed)
    counts = {"in": 0, "started": 0, "served": 0}

    class Gated(Chat):
        __slots__ = ()

        def show_token(self, loop):
            if loop.now > seconds / 2:
                delays.add(loop.now - self.due)
            return True

        def show_end(self, loop):
            counts["in"] -= 1
            counts["served"] += loop.now > seconds / 2
            pump()

    def pump():
        while waiting and counts["in"] < slots:
            waiting.popleft()
            counts["in"] += 1
            counts["started"] += 1
            if counts["started"] % 110 == 0:
                world.loop.stop_the_world(0.4)
            world.loop.make_ready(Gated(world.provider, 0.010, work, tokens, gap, first, True))

    class Arrival(Task):
        __slots__ = ()

        def wake(self, loop):
            waiting.append(1)
            pump()
            loop.at(loop.now + rng.expovariate(rate), self)

    world.loop.at(rng.expovariate(rate), Arrival())
    world.loop.advance(seconds)
    return counts["served"] / (seconds / 2), delays.quantiles_ms((0.95,))[0] / 1000


# What a worker behind a fixed number of slots serves, and how late its tokens are: load, slots, chats/s, p95 (s).
KNOWN = [("A", 48, 12.7, 0.13), ("A", 64, 16.0, 0.22), ("A", 96, 16.2, 0.43),
         ("B", 48, 2.4, 0.01), ("B", 96, 4.8, 0.01),
         ("C", 48, 4.0, 0.02), ("C", 64, 5.4, 0.09), ("C", 96, 6.8, 0.55),
         ("heavy", 48, 4.4, 0.21), ("heavy", 64, 4.3, 0.30), ("heavy", 96, 4.3, 0.47),
         ("provider", 48, 4.8, 0.02), ("provider", 64, 6.4, 0.03), ("provider", 96, 8.9, 0.17)]
LOADS = {"A": (40, 0.032, 40, 0.05, 120), "B": (20, 0.032, 40, 0.5, 200), "C": (8, 0.032, 200, 0.05, 200),
         "heavy": (9, 0.2, 40, 0.05, 200), "provider": (25, 0.032, 40, 0.05, 200, 8.0)}


def test_the_known_loads_come_out_as_known():
    for load, slots, served, late in KNOWN:
        rate, work, tokens, gap, seconds, *first = LOADS[load]
        got, delay = offered(rate, work, tokens, gap, seconds, slots, *first)
        assert abs(got - served) <= 0.05 * served, f"{load} with {slots} slots serves {got:.2f}/s, known {served}"
        assert abs(delay - late) <= 0.25 * late + 0.03, f"{load} with {slots} slots: p95 {delay:.3f} s, known {late}"


def test_quantiles_of_a_histogram_are_upper_edges():
    histogram = Histogram()
    for milliseconds in range(1, 101):
        histogram.add(milliseconds / 1000 - 0.0005)
    assert histogram.quantiles_ms((0.5, 0.95, 0.99)) == [50.0, 95.0, 99.0]
    histogram.add(100.0)
    assert histogram.shown()["max_ms"] == 100_000.0 and histogram.shown()["p99_ms"] == 100.0
    histogram.clear()
    assert histogram.shown()["p99_ms"] == 0.0
