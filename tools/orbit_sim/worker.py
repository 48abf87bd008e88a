"""One simulated worker: joins the connections, the virtual loop, ORBIT's state and the switches of tests."""

import asyncio
import collections
import heapq
import os
import random
import signal
import sys
import time
import traceback

from . import metrics, routes
from .control import Control
from .driver import Driver
from .faults import FaultBook, latin
from .limits import Limits
from .model import Provider, Task, VirtualLoop
from .server import Connection
from .state import State
from .stats import Stats

BODY_KEPT = 64 * 1024          # of a remembered request
LOG_BYTES = 64 * 1024 * 1024   # of all remembered requests


class Request(Task):
    """A request that is answered by a handler after some CPU."""

    __slots__ = ("exchange", "handler", "arguments")

    def __init__(self, exchange, cpu, handler, arguments=()):
        super().__init__(cpu)
        self.exchange = exchange
        self.handler = handler
        self.arguments = arguments

    def spent(self, loop):
        exchange = self.exchange
        try:
            self.handler(exchange.worker, exchange, *self.arguments)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if not exchange.head_sent:
                exchange.answer_text(500, "Internal Server Error", bare=True)


class Later(Task):
    """Something that happens after a delay, without CPU."""

    __slots__ = ("act",)

    def __init__(self, act):
        super().__init__()
        self.act = act

    def wake(self, loop):
        self.act()


class Worker:
    def __init__(self, settings, event_loop):
        self.settings = settings
        self.loop = event_loop
        self.clock = time.monotonic
        self.rng = random.Random(settings.seed)
        self.started = time.time()
        now = self.clock()
        self.virtual = VirtualLoop(settings, now)
        self.driver = Driver(self.virtual, event_loop)
        self.provider = Provider(settings, self.rng)
        self.stats = Stats(now)
        self.stats.provider = self.provider
        self.faults = FaultBook(random.Random(settings.seed + 1))
        self.state = State(settings.state)
        self.limits = Limits(settings)
        self.metrics = metrics.Metrics(self)
        self.control = Control(self)
        self.connections = set()
        self.connection_count = 0
        self.deadlines = []        # (when, order, connection): idle connections
        self.deadline_timer = None
        self.filed = 0
        self.requests = collections.deque()
        self.requests_total = 0
        self.requests_bytes = 0
        self.streams = {}          # request id -> running streamed chat
        self.sessions_running = {} # session -> running chats
        self.mcp_sessions = {}
        self.a2a_tasks = {}
        self.jobs = {}
        self.in_flight = set()     # exchanges that a graceful shutdown waits for
        self.warm = False
        self.chats = 0
        self.reloads = 0
        self.draining = False
        self.dying_by = None
        self.listener = None
        self.listener_again = None
        self.control_server = None
        self.port = settings.port
        self.control_port = None

    # --- listening ---

    async def open(self):
        if self.settings.start_delay_s:
            await asyncio.sleep(self.settings.start_delay_s)
        if self.settings.control_port is not None:
            self.control_server = await self.loop.create_server(
                lambda: Connection(self, control_only=True), self.settings.host, self.settings.control_port)
            self.control_port = self.control_server.sockets[0].getsockname()[1]
        await self.listen()
        self.loop.call_later(1.0, self.tick)
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop, number)

    async def listen(self):
        self.listener = await self.loop.create_server(
            lambda: Connection(self), self.settings.host, self.port, backlog=2048, reuse_address=True)
        self.port = self.listener.sockets[0].getsockname()[1]

    def close_listener(self):
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def refuse(self, seconds):
        """Connections are refused until `accept_again`, or for so long."""
        self.close_listener()
        if self.listener_again is not None:
            self.listener_again.cancel()
            self.listener_again = None
        if seconds is not None:
            self.listener_again = self.loop.call_later(seconds, self.accept_again)

    def accept_again(self):
        self.faults.faults = [fault for fault in self.faults.faults if fault.kind != "refuse"]
        if self.listener_again is not None:
            self.listener_again.cancel()
            self.listener_again = None
        if self.listener is None and not self.draining:
            self.loop.create_task(self.listen())

    # --- connections ---

    def connection_made(self, connection):
        self.connections.add(connection)
        if not connection.control_only:
            self.stats.connections += 1
            self.stats.connections_now += 1
        self.connection_count += 1
        return self.connection_count

    def connection_lost(self, connection):
        self.connections.discard(connection)
        if not connection.control_only:
            self.stats.connections_now -= 1

    def file_keep_alive(self, connection):
        """One entry per connection, pushed back when it comes up too early."""
        connection.filed = True
        self.filed += 1
        heapq.heappush(self.deadlines, (connection.idle_since + self.settings.keep_alive_s, self.filed, connection))
        if self.deadline_timer is None:
            self.deadline_timer = self.loop.call_at(self.deadlines[0][0], self.close_idle)

    def close_idle(self):
        now = self.clock()
        keep = self.settings.keep_alive_s
        while self.deadlines and self.deadlines[0][0] <= now + 0.001:
            _, _, connection = heapq.heappop(self.deadlines)
            connection.filed = False
            if connection.dead:
                continue
            due = (now if connection.idle_since is None else connection.idle_since) + keep
            if due <= now + 0.001:
                connection.deaf = True
                connection.transport.close()
            else:
                connection.filed = True
                self.filed += 1
                heapq.heappush(self.deadlines, (due, self.filed, connection))
        self.deadline_timer = self.loop.call_at(self.deadlines[0][0], self.close_idle) if self.deadlines else None

    # --- requests ---

    def log_request(self, exchange, raw):
        self.stats.requests += 1
        self.requests_total += 1
        entry = {"id": self.requests_total, "at": round(time.time(), 6), "peer": "%s:%s" % exchange.connection.peer[:2],
                 "connection": exchange.connection.number, "method": exchange.method, "target": exchange.target,
                 "path": exchange.path, "raw_head": raw, "body_bytes": 0, "body": b"", "complete": False}
        if self.settings.request_log:
            self.requests.append(entry)
            self.requests_bytes += len(raw)
            while len(self.requests) > self.settings.request_log or self.requests_bytes > LOG_BYTES:
                oldest = self.requests.popleft()
                self.requests_bytes -= len(oldest["raw_head"]) + len(oldest["body"])
        return entry

    def log_whole(self, exchange):
        entry = exchange.entry
        entry["complete"] = True
        entry["body_bytes"] = len(exchange.body)
        entry["body"] = exchange.body[:BODY_KEPT]
        self.requests_bytes += len(entry["body"])

    def dispatch(self, exchange):
        """A whole request, not for the control route."""
        self.in_flight.add(exchange)
        self.metrics.begin(exchange)
        fault = self.faults.take("request", exchange.method, exchange.path)
        if fault is not None:
            self.stats.faults += 1
            exchange.fault = fault
            if self.strike(exchange, fault):
                return
        self.enter(exchange)

    def enter(self, exchange):
        if not self.limits.admit(self, exchange):
            return
        routes.enter(self, exchange)

    def strike(self, exchange, fault):
        """Faults that take the place of an answer. True: nothing more is to be done."""
        connection = exchange.connection
        kind = fault.kind
        if kind == "hang":
            return True
        if kind == "slow":
            exchange.fault = None
            self.driver.later(fault.delay_ms * 1e-3, Later(lambda: self.enter(exchange)))
            return True
        if kind == "reset" and fault.when == "request":
            connection.drop(fault.how)
            return True
        if kind == "error":
            exchange.fault = None
            body = latin(fault.body)
            extra = "".join(f"{name}: {value}\r\n" for name, value in fault.headers.items())
            exchange.respond(fault.status, latin(extra) + b"content-length: %d\r\ncontent-type: %b\r\n"
                             % (len(body), latin(fault.content_type)), body)
            return True
        if kind in ("raw", "garbage"):
            connection.write(latin(fault.bytes))
            exchange.ended = True
            self.abandon(exchange)
            if fault.then == "keep":
                connection.exchange_ended(exchange)
            elif fault.then == "close":
                connection.drop("fin")
            else:
                self.loop.call_later(0.02, connection.drop, "rst")  # a reset at once would overtake the bytes
            return True
        if kind == "informational":
            connection.write(latin(fault.bytes) * int(fault.times))
        elif kind == "trickle":
            connection.start_trickle(fault)
        return False

    def run(self, exchange, cpu_ms, handler, *arguments):
        self.driver.arrive(Request(exchange, cpu_ms * 1e-3, handler, arguments))

    def client_left(self, exchange):
        """The connection of a running chat is gone; the chat finds out when it next looks."""
        self.driver.enter(exchange.chat.left_alone, self.virtual)

    def exchange_ended(self, exchange):
        self.in_flight.discard(exchange)
        if exchange.path == "/health":
            self.stats.health_delay.add(self.clock() - exchange.whole_at)
        self.let_go()

    def abandon(self, exchange):
        """An exchange that will never be answered."""
        self.in_flight.discard(exchange)
        self.let_go()

    def let_go(self):
        if self.draining and not self.in_flight:
            self.loop.call_later(0.2, self.die)

    def forget(self):
        """Everything a real worker would lose, and the database with it."""
        self.state.record(op="forget")
        self.mcp_sessions.clear()
        self.a2a_tasks.clear()
        self.jobs.clear()
        self.limits.forget()
        self.metrics.forget()
        self.warm = False

    # --- time ---

    def tick(self):
        self.loop.call_later(1.0, self.tick)
        self.driver.advance()
        self.stats.tick(self.clock())
        self.metrics.tick()
        self.state.catch_up()
        if os.environ.get("ORBIT_SUPERVISOR_PID"):
            self.reloads = max(self.reloads, self.state.reloads)

    def stop_the_world(self, seconds):
        self.stats.pauses += 1
        self.driver.stop_the_world(seconds)

    # --- the end ---

    def stop(self, number):
        """SIGTERM, SIGINT: no new connections, idle ones closed, running work runs on, then death by the signal."""
        if self.draining:
            self.die()
            return
        self.draining = True
        self.dying_by = number
        if self.listener_again is not None:
            self.listener_again.cancel()
        self.close_listener()
        for connection in list(self.connections):
            if connection.websocket is not None:
                connection.websocket.close(1012)
            elif connection.exchange is None or connection.control_only:
                connection.drop("fin")
        if self.in_flight:
            self.loop.call_later(self.settings.graceful_s, self.cut)
        else:
            self.loop.call_later(0.2, self.die)

    def cut(self):
        """Patience is over."""
        for exchange in list(self.in_flight):
            if exchange.head_sent:
                exchange.connection.drop("fin")
            else:
                exchange.keep_alive = False
                exchange.fault = None
                exchange.answer_text(500, "Internal Server Error", bare=True)
        self.loop.call_later(0.5, self.die)

    def die(self):
        number = self.dying_by or signal.SIGTERM
        self.loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def restart(self):
        """/admin/restart: the process begins again, without a drain."""
        os.execv(sys.executable, [sys.executable] + sys.argv)
