"""/metrics and /metrics/json: one worker's view, with ORBIT's quirks.

The in-progress gauge forgets a stream once its head is out; durations of streams are times to the head; endpoints are
templates, those under /admin without their prefix; /health, /auth, /metrics, pages and what matches no route are left out.
CPU is the virtual loop's, memory that of a real worker.
"""

import os
import platform
import time

from .state import iso

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
NOT_COUNTED = ("/health", "/auth", "/metrics", "/favicon", "/static", "/.well-known", "/docs", "/redoc", "/openapi")
WINDOW = 60       # samples kept: 300 s
SAMPLE_EVERY = 5  # seconds
START_CPU = 11.0  # what starting costs the real one
SERIES = ("cpu", "memory", "requests_per_second", "error_rate", "response_time", "response_time_p50",
          "response_time_p95", "response_time_p99", "timestamps")


def go_float(value):
    """As Prometheus' Python client writes numbers."""
    shown = repr(float(value))
    dot = shown.find(".")
    if value > 0 and dot > 6:
        return f"{shown[0]}.{shown[1:dot]}{shown[dot + 1:]}".rstrip("0.") + f"e+{dot - 1:02d}"
    return shown


class Metrics:
    def __init__(self, worker):
        self.worker = worker
        self.websockets = 0
        self.forget()

    def forget(self):
        self.totals = {}     # (endpoint, method, status) -> [count, created]
        self.durations = {}  # (endpoint, method) -> [buckets, sum, created, count, errors]
        self.in_progress = {}
        self.recent = []     # (time, seconds, status) of the last requests
        self.series = {name: [] for name in SERIES}
        self.cpu_mark = (time.monotonic(), 0.0)
        self.cpu_percent = 0.0
        self.ticks = 0

    # --- counting ---

    def begin(self, exchange):
        if exchange.path.startswith("/metrics"):
            return
        exchange.counted = True
        self.in_progress[exchange.method] = self.in_progress.get(exchange.method, 0) + 1

    def observe(self, exchange):
        """The head is out (or the exchange over): once per exchange."""
        if not exchange.counted:
            return
        exchange.counted = False
        self.in_progress[exchange.method] -= 1
        endpoint = exchange.endpoint
        if endpoint is None or endpoint.startswith(NOT_COUNTED) or not exchange.status:
            return
        if endpoint.startswith("/admin/"):
            endpoint = endpoint[len("/admin"):]
        now = time.time()
        took = self.worker.clock() - exchange.whole_at
        self.totals.setdefault((endpoint, exchange.method, exchange.status), [0, now])[0] += 1
        entry = self.durations.setdefault((endpoint, exchange.method), [[0] * len(BUCKETS), 0.0, now, 0, 0])
        for at, edge in enumerate(BUCKETS):
            if took <= edge:
                entry[0][at] += 1
                break
        entry[1] += took
        entry[3] += 1
        entry[4] += exchange.status >= 400
        self.recent.append((now, took, exchange.status))
        if len(self.recent) > 2000:
            del self.recent[:1000]

    # --- gauges ---

    def cpu_seconds(self):
        return START_CPU + self.worker.virtual.busy_in_all

    def memory_bytes(self):
        """247 MB after the start, 90 more with the first chat, a little per running stream."""
        return 247e6 + (90e6 if self.worker.warm else 0) + 0.4e6 * self.worker.stats.chats_now

    def sample_cpu(self):
        now = time.monotonic()
        spent = self.worker.virtual.busy_in_all
        span = now - self.cpu_mark[0]
        if span > 0.01:
            self.cpu_percent = round(100 * (spent - self.cpu_mark[1]) / span, 1)
        self.cpu_mark = (now, spent)
        return self.cpu_percent

    def tick(self):
        """Once a second; every fifth time a sample."""
        self.ticks += 1
        if self.ticks % SAMPLE_EVERY:
            return
        requests = self.requests()
        values = (self.sample_cpu(), self.memory_bytes() / 24.5e9 * 100, requests["per_second"], requests["error_rate"],
                  requests["avg_response_time"], requests["p50_response_time"], requests["p95_response_time"],
                  requests["p99_response_time"], iso(zone=""))
        for name, value in zip(SERIES, values):
            self.series[name].append(value)
            del self.series[name][:-WINDOW]

    def requests(self):
        now = time.time()
        last = [took * 1000 for _, took, _ in self.recent[-100:]]
        ordered = sorted(last)
        minute = [status for when, _, status in self.recent if when > now - 60]

        def quantile(fraction):
            return round(ordered[min(int(fraction * len(ordered)), len(ordered) - 1)], 2) if ordered else 0.0

        return {"total": sum(entry[3] for entry in self.durations.values()),
                "per_second": round(sum(when > now - 10 for when, _, _ in self.recent) / 10, 2),
                "error_rate": round(100 * sum(status >= 400 for status in minute) / len(minute), 2) if minute else 0.0,
                "avg_response_time": round(sum(last) / len(last), 2) if last else 0.0,
                "p50_response_time": quantile(0.5), "p95_response_time": quantile(0.95),
                "p99_response_time": quantile(0.99)}

    def endpoint_stats(self):
        """By endpoint alone, under the method that came first."""
        merged = {}
        for (endpoint, method), (_, total, _, count, errors) in self.durations.items():
            one = merged.setdefault(endpoint, [method, 0, 0.0, 0])
            one[1] += count
            one[2] += total
            one[3] += errors
        stats = [{"endpoint": endpoint, "method": method, "total_requests": count,
                  "avg_latency_ms": round(total / count * 1000, 1), "error_rate": round(100 * errors / count, 2)}
                 for endpoint, (method, count, total, errors) in merged.items()]
        return sorted(stats, key=lambda one: -one["total_requests"])

    def json(self):
        up = time.time() - self.worker.started
        minutes = int(up // 60)
        memory = self.memory_bytes()
        stats = self.endpoint_stats()
        return {"system": {"cpu_percent": self.sample_cpu(), "memory_gb": round(memory / 2**30, 2),
                           "memory_percent": round(memory / 24.5e9 * 100, 1), "disk_usage_percent": 25.0,
                           "uptime": f"{minutes}m" if minutes else "< 1m", "uptime_seconds": up},
                "requests": self.requests(), "time_series": self.series, "endpoint_stats": stats,
                "thresholds": {"cpu": 90, "memory": 85, "error_rate": 5, "response_time_ms": 5000}}

    # --- text ---

    def text(self):
        lines = []

        def family(name, kind, help_text, *samples):
            lines.append(f"# HELP {name} {help_text}")
            lines.append(f"# TYPE {name} {kind}")
            lines.extend(f"{name}{labels} {go_float(value)}" for labels, value in samples)

        version = platform.python_version_tuple()
        descriptors = len(os.listdir("/proc/self/fd"))
        generations = [f'{{generation="{at}"}}' for at in range(3)]
        family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", ("", 1.67651328e9))
        family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", ("", self.memory_bytes()))
        family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
               ("", round(self.worker.started, 2)))
        family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
               ("", round(self.cpu_seconds(), 2)))
        family("process_open_fds", "gauge", "Number of open file descriptors.", ("", descriptors))
        family("process_max_fds", "gauge", "Maximum number of open file descriptors.", ("", 20000))
        family("python_info", "gauge", "Python platform information",
               (f'{{implementation="CPython",major="{version[0]}",minor="{version[1]}",patchlevel="{version[2]}",'
                f'version="{".".join(version)}"}}', 1))
        family("python_gc_objects_collected_total", "counter", "Objects collected during gc",
               *zip(generations, (16135, 3329, 135)))
        family("python_gc_objects_uncollectable_total", "counter", "Uncollectable objects found during GC",
               *zip(generations, (0, 0, 0)))
        family("python_gc_collections_total", "counter", "Number of times this generation was collected",
               *zip(generations, (1052, 95, self.worker.stats.pauses)))
        counted = [(f'{{endpoint="{endpoint}",method="{method}",status="{status}"}}', entry)
                   for (endpoint, method, status), entry in self.totals.items()]
        family("orbit_http_requests_total", "counter", "Total number of HTTP requests",
               *((labels, entry[0]) for labels, entry in counted))
        if counted:
            family("orbit_http_requests_created", "gauge", "Total number of HTTP requests",
                   *((labels, entry[1]) for labels, entry in counted))
        self.histogram(lines)
        family("orbit_http_requests_in_progress", "gauge", "In-progress HTTP requests",
               *((f'{{endpoint="__pending_route__",method="{method}"}}', count)
                 for method, count in self.in_progress.items()))
        family("orbit_adapter_requests_total", "counter", "Total adapter requests")
        family("orbit_adapter_latency_seconds", "histogram", "Adapter response latency")
        family("orbit_adapter_circuit_breaker_state", "gauge", "Circuit breaker state (0=closed, 1=open, 2=half-open)")
        family("orbit_cpu_usage_percent", "gauge", "CPU usage percentage", ("", self.cpu_percent))
        family("orbit_memory_usage_mb", "gauge", "Memory usage in MB", ("", round(self.memory_bytes() / 2**20, 2)))
        family("orbit_thread_pool_active_threads", "gauge", "Active threads in thread pool")
        family("orbit_thread_pool_queued_tasks", "gauge", "Queued tasks in thread pool")
        family("orbit_websocket_connections", "gauge", "Active WebSocket connections", ("", self.websockets))
        family("orbit_auth_attempts_total", "counter", "Authentication attempts")
        family("orbit_active_sessions", "gauge", "Active user sessions", ("", 0))
        family("orbit_api_key_usage_total", "counter", "API key usage")
        family("orbit_health_check_status", "gauge", "Health check status (1=healthy, 0=unhealthy)")
        return "\n".join(lines) + "\n"

    def histogram(self, lines):
        name = "orbit_http_request_duration_seconds"
        lines.append(f"# HELP {name} HTTP request latency")
        lines.append(f"# TYPE {name} histogram")
        for (endpoint, method), (buckets, total, _, count, _) in self.durations.items():
            below = 0
            for edge, hits in zip(BUCKETS, buckets):
                below += hits
                lines.append(f'{name}_bucket{{endpoint="{endpoint}",le="{edge}",method="{method}"}} {go_float(below)}')
            lines.append(f'{name}_bucket{{endpoint="{endpoint}",le="+Inf",method="{method}"}} {go_float(count)}')
            lines.append(f'{name}_count{{endpoint="{endpoint}",method="{method}"}} {go_float(count)}')
            lines.append(f'{name}_sum{{endpoint="{endpoint}",method="{method}"}} {go_float(total)}')
        if self.durations:
            lines.append(f"# HELP {name}_created HTTP request latency")
            lines.append(f"# TYPE {name}_created gauge")
            for (endpoint, method), entry in self.durations.items():
                lines.append(f'{name}_created{{endpoint="{endpoint}",method="{method}"}} {go_float(entry[2])}')
