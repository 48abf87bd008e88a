"""Every knob of the simulator in one table: command line, control route and defaults all come from it.

A setting is live (may change while the simulator runs) or not. Profiles are columns of defaults.
"""

import argparse
import re

HELP = """\
A simulated ORBIT worker: ORBIT's routes, framing, errors and life cycle, with the speed of a real worker
(one serial event loop) and no model behind it. Simulated work costs no CPU. README.md in tools/orbit_sim
describes the control route (/__sim), the faults and the statistics."""


class SettingError(ValueError):
    """A value that a setting does not take; the text is for people."""


def number(low, high, whole=False):
    def parse(name, value):
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise SettingError(f"{name}: a number is expected, not {value!r}")
        try:
            parsed = int(value) if whole else float(value)
        except ValueError:
            raise SettingError(f"{name}: a number is expected, not {value!r}") from None
        if not low <= parsed <= high:
            raise SettingError(f"{name}: {value} is outside {low} ... {high}")
        return parsed
    return parse


def text(name, value):
    if not isinstance(value, str):
        raise SettingError(f"{name}: text is expected, not {value!r}")
    return value


def yes_no(name, value):
    if isinstance(value, bool):
        return value
    if value in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return value in ("true", "yes", "on", "1")
    raise SettingError(f"{name}: true or false is expected, not {value!r}")


def readiness(name, value):
    if value in (True, False):
        return "true" if value else "false"
    if value in ("true", "false", "missing"):
        return value
    raise SettingError(f"{name}: true, false or missing is expected, not {value!r}")


def milliseconds_range(name, value):
    """`30` or `300-3000`; kept as text, see `bounds`."""
    shown = str(value)
    bounds(name, shown)
    return shown


def bounds(name, value):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", value)
    if not match:
        raise SettingError(f"{name}: milliseconds, or a range such as 300-3000, are expected, not {value!r}")
    low = float(match[1])
    high = float(match[2]) if match[2] else low
    if high < low or high > 3_600_000:
        raise SettingError(f"{name}: {value!r} is not a range up to an hour")
    return low, high


MS = number(0, 3_600_000)
SECONDS = number(0, 86_400)
COUNT = number(0, 1_000_000, whole=True)
PORT = number(0, 65_535, whole=True)

# name, parser, default, live, help; the bench and ideal profiles below override some defaults.
TABLE = [
    ("host", text, "127.0.0.1", False, "address to listen on"),
    ("port", PORT, 3001, False, "port to listen on, 0 = any"),
    ("name", text, "worker", False, "shown in the ready line and in the control route"),
    ("seed", COUNT, 42, False, "of everything random"),
    ("control_port", PORT, None, False, "the control route on a port of its own as well, 0 = any"),
    ("start_delay_s", SECONDS, 0, False, "sleep before the port opens (the real worker: 11)"),
    ("state", text, "", False, "file that several workers share: pause, sessions, history, files"),
    ("request_log", COUNT, 1000, False, "how many received requests are remembered"),
    ("work_ms", MS, 32, True, "CPU of a chat, head included, tokens not"),
    ("head_ms", MS, 10, True, "CPU of a chat before its head"),
    ("token_ms", MS, 1.5, True, "CPU of a token"),
    ("token_busy_ms", MS, 0.55, True, "CPU of a token when more than busy_tasks are ready"),
    ("busy_tasks", COUNT, 3, True, "see token_busy_ms"),
    ("quantum_ms", number(0.01, 60_000), 5, True, "piece of work between two turns"),
    ("probe_ms", MS, 1, True, "CPU of /health* and /metrics*"),
    ("request_ms", MS, 3, True, "CPU of any other request"),
    ("login_ms", MS, 700, True, "CPU of a login"),
    ("char_us", MS, 0, True, "CPU per character of a prompt in microseconds (the real worker: 7)"),
    ("provider_connections", COUNT, 100, True, "5 with Ollama, 0 = no bound"),
    ("provider_delay_ms", milliseconds_range, "30", True, "to the provider's first token; A-B = uniform"),
    ("tokens", COUNT, 20, True, "length of an answer"),
    ("token_gap_ms", MS, 50, True, "between the provider's tokens"),
    ("pause_every", COUNT, 0, True, "every n-th chat stops the world, 0 = never"),
    ("pause_ms", MS, 400, True, "length of such a pause"),
    ("cold_ms", MS, 0, True, "CPU added to the first chat (the real worker: 5000)"),
    ("keep_alive_s", SECONDS, 30, True, "idle connections are closed after this"),
    ("graceful_s", SECONDS, 30, True, "what SIGTERM grants to running work"),
    ("api_keys", text, "", True, "KEY=ADAPTER,KEY2: the keys that are good; empty: any orbit_ + 32 characters"),
    ("admin_password", text, "admin", True, "for POST /auth/login"),
    ("ready", readiness, "true", True, "/health/ready: true, false (still 200) or missing (503)"),
    ("healthy_adapters", COUNT, 2, True, "shown by /health/ready"),
    ("total_adapters", COUNT, 2, True, "shown by /health/ready"),
    ("rate_limit", COUNT, 0, True, "requests a minute and address, 0 = off"),
    ("quota_daily", COUNT, 0, True, "chats a day and key, 0 = off"),
    ("quota_monthly", COUNT, 0, True, "chats a month and key, 0 = off"),
    ("multiworker", yes_no, False, True, "/admin/restart answers 501"),
]

PROFILES = {
    "plain": {},
    "bench": {"provider_delay_ms": "300-3000", "tokens": 40, "pause_every": 110},
    "ideal": {"work_ms": 0, "head_ms": 0, "token_ms": 0, "token_busy_ms": 0, "probe_ms": 0, "request_ms": 0,
              "login_ms": 0, "provider_connections": 0, "pause_every": 0},
}

PARSERS = {row[0]: row[1] for row in TABLE}
LIVE = {row[0] for row in TABLE if row[3]}


class Settings:
    """Plain attributes named as in the table, plus derived ones in seconds that the model reads."""

    def __init__(self, values=None):
        for name, _, default, _, _ in TABLE:
            setattr(self, name, default)
        for name, value in (values or {}).items():
            setattr(self, name, value)
        self.refresh()

    def refresh(self):
        self.provider_low, self.provider_high = (v / 1e3 for v in bounds("provider_delay_ms", self.provider_delay_ms))
        self.keys = {}
        for entry in filter(None, self.api_keys.split(",")):
            key, _, adapter = entry.partition("=")
            self.keys[key] = adapter or "simple-chat"

    def change(self, wanted):
        """Applies live settings, all or none."""
        parsed = {}
        for name, value in wanted.items():
            if name not in PARSERS:
                raise SettingError(f"{name}: no such setting")
            if name not in LIVE:
                raise SettingError(f"{name}: can only be set at the start")
            parsed[name] = PARSERS[name](name, value)
        for name, value in parsed.items():
            setattr(self, name, value)
        self.refresh()

    def shown(self):
        return {name: getattr(self, name) for name in PARSERS}


def parse_command_line(arguments):
    parser = argparse.ArgumentParser(prog="orbit-sim", description=HELP,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="plain",
                        help="defaults to begin with: plain (quick answers, no pauses), bench (the load model), "
                             "ideal (work costs nothing)")
    for name, _, default, live, help_text in TABLE:
        shown = "none" if default in (None, "") else default
        bench = PROFILES["bench"].get(name)
        also = f", bench {bench}" if bench is not None else ""
        parser.add_argument("--" + name.replace("_", "-"), metavar="V", default=None,
                            help=f"{help_text} [{shown}{also}]".replace("%", "%%"))
    given = vars(parser.parse_args(arguments))
    values = dict(PROFILES[given.pop("profile")])
    for name, value in given.items():
        if value is not None:
            try:
                values[name] = PARSERS[name](name, value)
            except SettingError as error:
                parser.error(str(error).replace("_", "-", 2))
    return Settings(values)
