"""The control route /__sim: settings, faults, statistics, what was received. Outside the virtual loop and never counted."""

import json
import os
from urllib.parse import parse_qs

from . import wire
from .faults import FaultError
from .settings import SettingError

WHAT = {"stats", "requests", "faults", "state"}


class BadRequest(ValueError):
    """Answered with 400."""


class Control:
    def __init__(self, worker):
        self.worker = worker

    def handle(self, exchange):
        try:
            status, value = 200, self.answer(exchange)
        except (BadRequest, FaultError, SettingError) as error:
            status, value = 400, {"error": str(error)}
        except LookupError as error:
            status, value = 404, {"error": str(error)}
        body = json.dumps(value).encode()
        head = wire.status_line(status) + b"content-length: %d\r\ncontent-type: application/json\r\n" % len(body)
        exchange.connection.write(head + (b"\r\n" if exchange.keep_alive else b"Connection: close\r\n\r\n") + body)
        exchange.ended = True
        exchange.connection.exchange_ended(exchange)

    def answer(self, exchange):
        path = exchange.path.rstrip("/")
        route = exchange.method + " " + path.removeprefix("/__sim")
        query = {name: values[0] for name, values in parse_qs(exchange.query).items()}
        worker = self.worker
        if route == "GET ":
            return {"name": worker.settings.name, "pid": os.getpid(), "port": worker.port,
                    "control_port": worker.control_port, "draining": worker.draining, "reloads": worker.reloads,
                    "settings": worker.settings.shown(), "faults": [fault.shown() for fault in worker.faults.faults],
                    "stats": self.stats(query)}
        if route == "GET /stats":
            return self.stats(query)
        if route == "GET /settings":
            return worker.settings.shown()
        if route == "POST /settings":
            worker.driver.advance()  # what was due under the old ones
            worker.settings.change(self.object(exchange))
            worker.driver.enter(worker.provider.pump, worker.virtual)
            return worker.settings.shown()
        if route == "GET /faults":
            return {"faults": [fault.shown() for fault in worker.faults.faults]}
        if route == "POST /faults":
            made = worker.faults.add(self.body(exchange))
            for fault in made:
                if fault.kind == "refuse":
                    worker.refuse(fault.seconds)
            return {"ids": [fault.id for fault in made]}
        if route == "DELETE /faults":
            worker.faults.remove(self.number(query, "id", None))
            if not any(fault.kind == "refuse" for fault in worker.faults.faults):
                worker.accept_again()
            return {"faults": [fault.shown() for fault in worker.faults.faults]}
        if route == "GET /requests":
            found = [one for one in worker.requests if query.get("path", one["path"]) == one["path"]]
            found = found[-self.number(query, "limit", len(found) or 1):]
            return {"total": worker.requests_total,
                    "requests": [{**one, "raw_head": one["raw_head"].decode("latin-1"), "body": one["body"].decode("latin-1")}
                                 for one in found]}
        if route == "DELETE /requests":
            self.forget_requests()
            return {"total": worker.requests_total}
        if route == "POST /reset":
            return self.reset(self.object(exchange))
        if route == "POST /stall":
            milliseconds = self.object(exchange).get("ms", 1000)
            if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)) or not 0 <= milliseconds <= 600_000:
                raise BadRequest(f"ms: 0 ... 600000 is expected, not {milliseconds!r}")
            worker.stop_the_world(milliseconds * 1e-3)
            return {"ms": milliseconds}
        if route == "POST /close_connections":
            return self.close_connections(self.object(exchange))
        raise LookupError(f"no {exchange.method} {path} here; see tools/orbit_sim/README.md")

    # --- parts ---

    def body(self, exchange):
        try:
            return json.loads(exchange.body or b"{}")
        except ValueError as error:
            raise BadRequest(f"the body is not JSON: {error}") from None

    def object(self, exchange):
        value = self.body(exchange)
        if not isinstance(value, dict):
            raise BadRequest("an object is expected")
        return value

    @staticmethod
    def number(query, name, default):
        if name not in query:
            return default
        if not query[name].isdigit():
            raise BadRequest(f"{name}: a number is expected, not {query[name]!r}")
        return int(query[name])

    def stats(self, query):
        worker = self.worker
        worker.driver.advance()
        now = worker.clock()
        return worker.stats.shown(now, worker.virtual.shown(now), query.get("buckets") == "1")

    def forget_requests(self):
        self.worker.requests.clear()
        self.worker.requests_bytes = 0

    def reset(self, wanted):
        what = wanted.get("what", ["stats", "requests"])
        if not isinstance(what, list) or not set(what) <= WHAT:
            raise BadRequest(f"what: a list of {', '.join(sorted(WHAT))} is expected")
        worker = self.worker
        worker.driver.advance()
        if "stats" in what:
            now = worker.clock()
            worker.stats.reset(now)
            worker.virtual.reset_busy(now)
        if "requests" in what:
            self.forget_requests()
        if "faults" in what:
            worker.faults.remove()
            worker.accept_again()
        if "state" in what:
            worker.forget()
        return {"reset": what}

    def close_connections(self, wanted):
        how, idle_only = wanted.get("how", "fin"), wanted.get("idle_only", True)
        if how not in ("fin", "rst") or not isinstance(idle_only, bool):
            raise BadRequest("how: fin or rst, and idle_only: true or false are expected")
        closed = 0
        for connection in list(self.worker.connections):
            if connection.control or connection.control_only or (idle_only and connection.exchange is not None):
                continue
            connection.drop(how)
            closed += 1
        return {"closed": closed}
