"""The three proxies, each one loop or thread, configured as their own manuals advise for this work."""

import os
import socket
import threading

from .processes import free_port


class Proxy:
    """`start(origins)` gives a running proxy: `process`, `port`."""

    name = ""

    def __init__(self, processes, label=None):
        self.processes = processes
        self.label = label or self.name
        self.process = None
        self.port = None

    def start(self, origins, path="/"):
        self.port = free_port()
        file = self.processes.folder / f"{self.label.replace(' ', '-')}-{self.port}.conf"
        file.write_text(self.configuration(origins))
        self.process = self.processes.start(self.command(file), file.stem)
        self.processes.wait_answer(self.process, self.port, path)
        return self

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        self.processes.stop(self.process)


class Perigee(Proxy):
    name = "perigee"

    def __init__(
        self,
        processes,
        program,
        label=None,
        kind="http",
        logs=False,
        settings="",
        one_loop=True,
        admin_port=None,
    ):
        super().__init__(processes, label)
        self.program, self.kind, self.logs, self.settings, self.one_loop = (
            program,
            kind,
            logs,
            settings,
            one_loop,
        )
        self.admin = f"127.0.0.1:{admin_port}" if admin_port else "off"

    def configuration(self, origins):
        workers = ", ".join(
            f"{{url: http://{one}, kind: {self.kind}}}" if self.kind else f"http://{one}" for one in origins
        )
        return (
            f"listen: 127.0.0.1:{self.port}\nworkers: [{workers}]\nadmin: {self.admin}\n"
            + "throttle: off\n"  # a bench fills the machine by itself, and the simulated workers have one of their own
            + ("" if self.logs else "access_log: off\n")
            + ("io_threads: 1\n" if self.one_loop else "")
            + self.settings
        )

    def command(self, file):
        return [self.program, "--config", file]


class HAProxy(Proxy):
    """`full`: the header work that Perigee does, both ways, too. `no_delay`: pieces of a body are sent as they
    come; as it is installed, HAProxy lets the kernel hold each of them back for 200 ms in case more follows."""

    name = "haproxy"

    def __init__(
        self,
        processes,
        program,
        label=None,
        full=False,
        logs=False,
        no_delay=False,
        balance="leastconn",
        maxconn=2000,
    ):
        super().__init__(processes, label)
        self.program, self.full, self.logs, self.no_delay = program, full, logs, no_delay
        self.balance, self.maxconn = balance, maxconn
        self.sink = LogSink() if logs else None

    def configuration(self, origins):
        # Logs go to a ring in memory, which HAProxy itself sends off in large pieces: the cheapest way it has.
        ring = (
            f"ring logs\n  format raw\n  maxlen 2048\n  size 4194304\n  timeout connect 5s\n  timeout server 60s\n"
            f"  server sink 127.0.0.1:{self.sink.port} log-proto octet-count\n"
            if self.logs
            else ""
        )
        headers = (
            """  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Real-IP %[src]
  http-request add-header Via "1.1 haproxy"
  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  http-response add-header Via "1.1 haproxy"
  http-response set-header X-Request-ID %[unique-id]
"""
            if self.full
            else ""
        )
        servers = "".join(f"  server s{i} {one}\n" for i, one in enumerate(origins))
        return f"""global
  nbthread 1
  maxconn {self.maxconn}
{"  log ring@logs local0" if self.logs else ""}
{ring}
defaults
  mode http
  {"option httplog" if self.logs else ""}
  {"log global" if self.logs else ""}
  {"option http-no-delay" if self.no_delay else ""}
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
  option forwardfor
  option http-keep-alive
  http-reuse always
frontend in
  bind 127.0.0.1:{self.port} backlog 4096
  default_backend out
{headers}
backend out
  balance {self.balance}
{servers}"""

    def command(self, file):
        return [self.program, "-db", "-q", "-f", file]

    def stop(self):
        super().stop()
        if self.sink:
            self.sink.close()


class LogSink(threading.Thread):
    """Takes HAProxy's log lines and counts their bytes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        try:
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    while data := connection.recv(1 << 18):
                        self.bytes += len(data)
        except OSError:
            return

    def close(self):
        self.listener.close()


NGINX = """daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/{name}.pid;
error_log stderr crit;
events {{ worker_connections {connections}; multi_accept off; }}
http {{
  access_log {log};
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  tcp_nodelay on;
{rest}
}}
"""


def nginx_file(processes, name, rest, log="off", connections=2000):
    user = "user root;" if os.geteuid() == 0 else ""
    return NGINX.format(
        user=user, folder=processes.folder, name=name, log=log, rest=rest, connections=connections
    )


def nginx_connections(n):
    """Room for n clients and their upstreams: from fifteen sixteenths on, nginx closes what it holds for idle, which a
    client that has not asked yet is, too."""
    return 2 * n * 16 // 15 + 400


class Nginx(Proxy):
    name = "nginx"

    def __init__(self, processes, program, label=None, logs=False, connections=2000, streams=False, rest=""):
        super().__init__(processes, label)
        self.program, self.logs, self.connections, self.streams = program, logs, connections, streams
        self.rest = rest or '      proxy_set_header Connection "";\n'

    def configuration(self, origins):
        servers = "".join(f"    server {one};\n" for one in origins)
        log = f"{self.processes.folder}/nginx-access.log combined buffer=32k flush=1s" if self.logs else "off"
        return nginx_file(
            self.processes,
            f"nginx-{self.port}",
            f"""
  upstream out {{
{servers}    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location / {{
      proxy_pass http://out;
      proxy_http_version 1.1;
      proxy_buffering {"off" if self.streams else "on"};
      proxy_read_timeout 600s;
{self.rest}      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}""",
            log,
            self.connections,
        )

    def command(self, file):
        return [self.program, "-q", "-p", self.processes.folder, "-c", file]


class Origin(Nginx):
    """nginx that answers every request by itself: 1 KiB."""

    name = "origin"

    def configuration(self, origins):
        return nginx_file(
            self.processes,
            f"origin-{self.port}",
            f"""
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    default_type text/plain;
    location / {{ return 200 "{"x" * 1023}\\n"; }}
  }}""",
        )
