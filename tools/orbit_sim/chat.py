"""ORBIT's chat: checks at the door, then the model's Chat with the bytes of the API that was called.

A dialect is how one API writes a streamed chat: what comes at once, a token, an error, the end.
"""

import json
import re
import time
import uuid

from . import wire
from .model import SILENT, Chat
from .state import iso

DIRECTIVE = re.compile(r"\[\[([a-z0-9_= .]*)\]\]")
NO_SESSION = "Session ID is required. Please provide a non-empty string in the X-Session-ID header."
KEY = re.compile(r"orbit_[0-9A-Za-z_-]{32}")
ADMIN_TOKEN = re.compile(r"[0-9A-Za-z]{64}")
OPTIONAL_TEXT = ("model", "skill", "thread_id", "audio_input", "audio_format", "language", "tts_voice",
                 "source_language", "target_language", "regenerate_of_message_id")


# --- who is asking ---

def adapter_of(worker, key):
    """The adapter that a key selects, or None for a bad key."""
    keys = worker.settings.keys
    if keys:
        return keys.get(key)
    if not KEY.fullmatch(key):
        return None
    if key.startswith("orbit_VOICE"):
        return "voice"
    return "second-chat" if key.startswith("orbit_EXAMPLEKEY2") else "simple-chat"


def key_of(exchange):
    key = exchange.field("x-api-key")
    if key:
        return key
    authorization = exchange.field("authorization")
    return authorization[7:] if authorization.startswith("Bearer ") else ""


def is_admin(exchange):
    authorization = exchange.field("authorization")
    return authorization.startswith("Bearer ") and ADMIN_TOKEN.fullmatch(authorization[7:]) is not None


# --- bodies ---

def problem(kind, loc, message, given, **context):
    found = {"type": kind, "loc": loc, "msg": message, "input": given}
    if context:
        found["ctx"] = context
    return found


def read_json(exchange):
    """(object, None) or (None, FastAPI's list of problems)."""
    if not exchange.body:
        return None, [problem("missing", ["body"], "Field required", None)]
    kind = exchange.field("content-type").split(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        value = exchange.body.decode("utf-8", "replace")
    else:
        try:
            value = json.loads(exchange.body)
        except json.JSONDecodeError as error:
            return None, [problem("json_invalid", ["body", error.pos], "JSON decode error", {}, error=error.msg)]
        except (UnicodeDecodeError, RecursionError):
            return None, [problem("json_invalid", ["body", 0], "JSON decode error", {}, error="Expecting value")]
    if not isinstance(value, dict):
        return None, [problem("model_attributes_type", ["body"],
                              "Input should be a valid dictionary or object to extract fields from", value)]
    return value, None


def missing(body, *names):
    return [problem("missing", ["body", name], "Field required", body) for name in names if name not in body]


def check_chat(body, strings_only):
    """The problems of a chat body; `strings_only` for /v1/chat, whose messages hold nothing but strings."""
    found = missing(body, "messages")
    if found:
        return found
    messages = body["messages"]
    if not isinstance(messages, list):
        return [problem("list_type", ["body", "messages"], "Input should be a valid list", messages)]
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            found.append(problem("dict_type", ["body", "messages", at], "Input should be a valid dictionary", message))
        elif strings_only:
            found += [problem("string_type", ["body", "messages", at, name], "Input should be a valid string", value)
                      for name, value in message.items() if not isinstance(value, str)]
    if not isinstance(body.get("stream", False), bool):
        given = body["stream"]
        kind = ("bool_parsing", "Input should be a valid boolean, unable to interpret input") \
            if isinstance(given, (str, int, float)) else ("bool_type", "Input should be a valid boolean")
        found.append(problem(kind[0], ["body", "stream"], kind[1], given))
    if strings_only:
        found += [problem("string_type", ["body", name], "Input should be a valid string", body[name])
                  for name in OPTIONAL_TEXT if name in body and not isinstance(body[name], (str, type(None)))]
    return found


# --- what the provider will do ---

class Plan:
    """Length and pace of one answer, and how it goes wrong. `special` = (index of the token, what happens there)."""

    __slots__ = ("tokens", "gap", "first", "work", "special", "failure", "terminal", "problem")

    def __init__(self, worker, prompt, fault):
        settings = worker.settings
        wanted = {}
        match = DIRECTIVE.search(prompt)
        if match:
            for pair in match[1].split():
                name, _, value = pair.partition("=")
                try:
                    wanted[name] = float(value)
                except ValueError:
                    pass
        self.tokens = max(int(wanted.get("n", settings.tokens)), 1)
        self.gap = wanted.get("gap", settings.token_gap_ms) * 1e-3
        first = wanted.get("first")
        self.first = None if first is None else first * 1e-3
        self.work = (wanted.get("work", settings.work_ms) + settings.char_us * 1e-3 * len(prompt)) * 1e-3
        self.failure = None   # sentence of a provider failure that comes before any token
        self.terminal = not wanted.get("nodone")
        self.special = (-1, "")
        self.problem = None   # what the pipeline refuses, before the provider is asked
        kind = fault.kind if fault is not None else ""
        if kind == "slow_first_token":
            self.first = fault.delay_ms * 1e-3
        elif kind == "unterminated":
            self.terminal = False
        status = fault.status if kind == "provider_error" else wanted.get("status", 200)
        if status >= 400:
            self.failure = wire.sentence(int(status))
            self.special = (0, "drop")
        for name in ("drop", "cut", "silence"):
            if name in wanted and self.failure is None:
                self.special = (int(wanted[name]), name)
        if kind in ("silence", "bad_chunk"):
            self.special = (int(fault.after), kind)
        elif kind == "provider_drop":
            self.special = (int(fault.after), "drop")
        elif kind == "reset" and fault.when == "events":
            self.special = (int(fault.after), fault.how)
        if self.special[1] == "drop":
            self.tokens = self.special[0] + 1
        elif self.special[0] >= self.tokens:
            self.special = (self.tokens - 1, self.special[1])


class Turn:
    """Who asks what: what is stored when the answer succeeded."""

    __slots__ = ("key", "session", "adapter", "prompt", "model", "asked_model", "peer", "overlapped", "began_at")

    def __init__(self, key, session, adapter, prompt, asked_model, peer):
        self.key = key
        self.session = session
        self.adapter = adapter
        self.prompt = prompt
        self.asked_model = asked_model
        self.model = "fake-1"
        self.peer = peer
        self.overlapped = False
        self.began_at = 0.0


class Told(Chat):
    """What every simulated chat does beside writing: counting, and the session's bookkeeping."""

    __slots__ = ("worker", "exchange", "turn", "plan")

    def __init__(self, worker, exchange, turn, plan, stream):
        settings = worker.settings
        super().__init__(worker.provider, settings.head_ms * 1e-3, plan.work, plan.tokens, plan.gap, plan.first, stream)
        self.worker = worker
        self.exchange = exchange
        self.turn = turn
        self.plan = plan
        exchange.chat = self

    def begin(self):
        worker = self.worker
        worker.chats += 1
        worker.stats.chat_begins()
        running = worker.sessions_running
        session = (self.turn.key, self.turn.session)
        if running.get(session):
            self.turn.overlapped = True
            worker.stats.overlapping_turns += 1
        running[session] = running.get(session, 0) + 1
        if not worker.warm:
            worker.warm = True
            cold = worker.settings.cold_ms * 1e-3
            if self.stream:
                self.rest += cold
            else:
                self.left += cold
        every = worker.settings.pause_every
        if every and worker.chats % every == 0:
            worker.stop_the_world(worker.settings.pause_ms * 1e-3)
        worker.driver.arrive(self)

    def over(self, outcome):
        """`outcome`: finished, aborted, wasted, stopped or failed."""
        worker = self.worker
        stats = worker.stats
        stats.chats_now -= 1
        setattr(stats, "chats_" + outcome, getattr(stats, "chats_" + outcome) + 1)
        session = (self.turn.key, self.turn.session)
        left = worker.sessions_running[session] - 1
        if left:
            worker.sessions_running[session] = left
        else:
            del worker.sessions_running[session]
        if outcome in ("finished", "wasted"):
            stats.chat_time.add(worker.driver.now - self.exchange.whole_at)

    def store(self):
        """Two turns of one session at once may lose one of them, as in the real worker."""
        turn = self.turn
        message_id = str(uuid.uuid4())
        if turn.overlapped and self.worker.rng.random() < 0.25:
            return message_id
        metadata = {"adapter_name": turn.adapter, "client_ip": turn.peer, "pipeline_processing_time": 0.0,
                    "original_query": turn.prompt}
        messages = [{"message_id": str(uuid.uuid4()), "role": "user", "content": turn.prompt, "timestamp": iso(),
                     "metadata": metadata},
                    {"message_id": message_id, "role": "assistant", "content": wire.answer_text(self.plan.tokens),
                     "timestamp": iso(), "metadata": metadata}]
        self.worker.state.record(op="turn", session=turn.session, key=turn.key, messages=messages)
        return message_id


class Streamed(Told):
    __slots__ = ("dialect", "write", "ready_chunks", "request_id", "special")

    def __init__(self, worker, exchange, turn, plan, dialect):
        super().__init__(worker, exchange, turn, plan, True)
        self.dialect = dialect
        self.write = exchange.connection.write
        self.request_id = dialect.request_id
        self.special = plan.special[0]
        # A token is one prepared chunk where nothing in it varies and nothing stands between it and the socket.
        self.ready_chunks = dialect.chunks if exchange.version == b"1.1" and exchange.connection.trickle is None else None
        if dialect.request_id:
            worker.streams[dialect.request_id] = self

    def show_head(self, loop):
        exchange = self.exchange
        if exchange.connection.trickle is None:
            self.worker.stats.head_lag.add(self.worker.driver.now - exchange.whole_at)
        exchange.start_stream(self.dialect.fields())
        for data in self.dialect.opening():
            exchange.send(data)
        if self.plan.problem is None:
            return True
        for data in self.dialect.refused(self.plan.problem):
            exchange.send(data)
        self.close("failed")
        return False

    def show_token(self, loop):
        worker = self.worker
        stats = worker.stats
        sent = self.sent
        if sent == self.special:
            return self.show_special(loop)
        chunks = self.ready_chunks
        if chunks is not None:
            self.write(chunks[sent % 26])
        else:
            self.exchange.send(self.dialect.token(sent, wire.WORD_BYTES[sent % 26]))
        now = worker.driver.now
        due = self.due
        stats.tokens += 1
        stats.token_delay.add(now - due)
        stats.token_delay_model.add(loop.now - due)
        stats.write_lag.add(now - loop.now)
        if sent == 0:
            stats.first_token.add(now - self.exchange.whole_at)
        return True

    def show_special(self, loop):
        what = self.plan.special[1]
        if what == "drop":
            text = self.plan.failure or wire.sentence(0)
            self.exchange.send(self.dialect.token(self.sent, json.dumps(text).encode()))
            return True
        if what == "silence":
            self.phase = SILENT
        elif what == "bad_chunk":
            self.write(b"zz\r\nno chunk\r\n")
        else:
            self.exchange.ended = True
            self.worker.abandon(self.exchange)
            self.exchange.connection.drop("fin" if what == "cut" else what)
            self.gone = True
            return False
        return True

    def show_end(self, loop):
        if self.gone:
            self.close("failed" if self.exchange.ended else "aborted")  # ended: it was we who cut it
        elif self.stopped:
            for data in self.dialect.stopped():
                self.exchange.send(data)
            self.close("stopped")
        elif self.plan.special[1] == "drop":
            for data in self.dialect.failed():
                self.exchange.send(data)
            self.close("failed")
        else:
            message_id = self.store()
            if self.plan.terminal:
                for data in self.dialect.terminal(message_id):
                    self.exchange.send(data)
            self.close("finished")

    def close(self, outcome):
        self.over(outcome)
        if self.request_id:
            self.worker.streams.pop(self.request_id, None)
        self.exchange.chat = None
        self.exchange.end_stream()


class Answered(Told):
    """Without streaming. `deliver(exchange, status, value)` writes it; the client's departure is not noticed."""

    __slots__ = ("deliver", "shape")

    def __init__(self, worker, exchange, turn, plan, deliver, shape):
        super().__init__(worker, exchange, turn, plan, False)
        self.deliver = deliver
        self.shape = shape

    def show_answer(self, loop):
        plan = self.plan
        gone = self.exchange.gone
        self.exchange.chat = None
        if plan.special[1] == "silence":
            self.over("failed")
            return
        if plan.special[1] == "drop":
            self.over("failed")
            self.deliver(self.exchange, *self.shape.failure(plan.failure or wire.sentence(0)))
            return
        message_id = self.store()
        self.over("wasted" if gone else "finished")
        if plan.special[1] == "cut":
            self.exchange.ended = True
            self.worker.abandon(self.exchange)
            self.exchange.connection.drop("fin")
            return
        self.deliver(self.exchange, 200, self.shape.answer(self.turn, plan, message_id))


# --- the two APIs ---

def usage(tokens):
    return {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}


def metadata(turn, tokens):
    return {"last_detected_language": "en", "last_detected_language_confidence": 0.9,
            "usage": {**usage(tokens), "reasoning_tokens": None, "cached_prompt_tokens": None, "provider": "openai",
                      "model": turn.model, "cost_usd": None, "input_rate_per_1m": None, "output_rate_per_1m": None,
                      "pricing_source": "unpriced", "reported": True, "call_type": "chat"},
            **usage(tokens), "processing_time": 0.0, "pipeline_used": True}


class Native:
    """/v1/chat"""

    chunks = wire.NATIVE_CHUNKS

    def __init__(self, turn):
        self.turn = turn
        self.request_id = str(uuid.uuid4())

    def fields(self):
        return wire.EVENT_STREAM % (b"x-request-id: %b\r\n" % self.request_id.encode())

    def opening(self):
        return [wire.event({"request_id": self.request_id})]

    def token(self, at, content):
        return b'data: {"response": %b, "done": false}\n\n' % content

    def refused(self, text):
        return [wire.event({"error": text, "done": True})]

    def terminal(self, message_id):
        return [wire.event({"done": True, "assistant_message_id": message_id, "model": self.turn.model})]

    def failed(self):
        return []

    stopped = failed

    @staticmethod
    def failure(text):
        return 200, {"error": text}

    @staticmethod
    def answer(turn, plan, message_id):
        return {"response": wire.answer_text(plan.tokens), "sources": [], "metadata": metadata(turn, plan.tokens),
                "assistant_message_id": message_id, "model": turn.model}


class Completions:
    """/v1/chat/completions"""

    chunks = None
    request_id = None

    def __init__(self, turn):
        self.id = "chatcmpl-" + uuid.uuid4().hex
        self.created = int(time.time())
        self.model = turn.asked_model or "orbit"
        self.adapter = turn.adapter
        self.before = (f'data: {{"id": "{self.id}", "object": "chat.completion.chunk", "created": {self.created}, "model": '
                       f'{json.dumps(self.model)}, "choices": [{{"index": 0, "delta": {{"content": ').encode()
        self.after = (f'}}, "finish_reason": null, "logprobs": null}}], "system_fingerprint": '
                      f'{json.dumps(self.adapter)}}}\n\n').encode()

    def fields(self):
        return wire.EVENT_STREAM % b""

    def opening(self):
        return []

    def token(self, at, content):
        if at == 0:
            return self.before[:-len('"content": ')] + b'"role": "assistant", "content": ' + content + self.after
        return self.before + content + self.after

    def chunk_with(self, finish, **more):
        return wire.event({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
                           "choices": [{"index": 0, "delta": {}, "finish_reason": finish, "logprobs": None}],
                           "system_fingerprint": self.adapter, **more})

    def refused(self, text):
        return [self.chunk_with("error", orbit={"error": text}), b"data: [DONE]\n\n"]

    def terminal(self, message_id):
        return [self.chunk_with("stop"), b"data: [DONE]\n\n"]

    def failed(self):
        return [b"data: [DONE]\n\n"]

    stopped = failed

    @staticmethod
    def failure(text):
        return 500, {"detail": text}

    @staticmethod
    def answer(turn, plan, message_id):
        return {"id": "chatcmpl-" + uuid.uuid4().hex, "object": "chat.completion", "created": int(time.time()),
                "model": turn.asked_model or "orbit",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": wire.answer_text(plan.tokens)},
                             "finish_reason": "stop", "logprobs": None}],
                "usage": usage(plan.tokens), "system_fingerprint": turn.adapter,
                "orbit": {"metadata": metadata(turn, plan.tokens)}}


def deliver_json(exchange, status, value):
    exchange.answer(status, value)


# --- the door ---

def refuse(worker, exchange, status, detail):
    worker.stats.chats_refused += 1
    worker.run(exchange, worker.settings.request_ms, lambda _, ex: ex.answer(status, {"detail": detail}))


def start(worker, exchange):
    """POST /v1/chat and /v1/chat/completions: validation 422, pause 503, key 401, session 400, ownership 403, then the chat."""
    native = exchange.path == "/v1/chat"
    body, problems = read_json(exchange)
    problems = problems or check_chat(body, strings_only=native)
    if problems:
        return refuse(worker, exchange, 422, problems)
    worker.state.catch_up()
    if worker.state.paused:
        return refuse(worker, exchange, 503, "Server is paused")
    key = key_of(exchange)
    adapter = adapter_of(worker, key)
    if adapter is None:
        return refuse(worker, exchange, 401, "Invalid or missing API key")
    session = exchange.field("x-session-id").strip()
    if not session:
        return refuse(worker, exchange, 400, NO_SESSION)
    if worker.state.owners.get(session, key) != key:
        return refuse(worker, exchange, 403, "Access denied")
    messages = body["messages"]
    if native:
        prompt = messages[-1].get("content", "") if messages else ""
    else:
        users = [message for message in messages if message.get("role") == "user"]
        if not users:
            return refuse(worker, exchange, 400, "No user message found in request")
        prompt = users[-1].get("content", "")
        if not isinstance(prompt, str):
            worker.stats.chats_refused += 1
            return worker.run(exchange, worker.settings.request_ms,
                              lambda _, ex: ex.answer_text(500, "Internal Server Error", bare=True))
    model = body.get("model")
    turn = Turn(key, session, adapter, prompt, model, exchange.connection.peer[0])
    plan = Plan(worker, prompt, exchange.fault)
    if not prompt.strip():
        plan.problem = "message must not be empty"
    elif model and model != "fake-2":
        plan.problem = f"Model '{model}' is not allowed for adapter '{adapter}'. Allowed models: ['fake-2']"
    dialect = Native(turn) if native else Completions(turn)
    if body.get("stream"):
        Streamed(worker, exchange, turn, plan, dialect).begin()
    elif plan.problem is not None:
        worker.stats.chats_refused += 1
        status, value = dialect.failure(plan.problem)
        worker.run(exchange, worker.settings.request_ms, lambda _, ex: ex.answer(status, value))
    else:
        Answered(worker, exchange, turn, plan, deliver_json, dialect).begin()


def stop(worker, exchange):
    """POST /v1/chat/stop: local to this process; frees the client at the next token, never the provider."""
    body, problems = read_json(exchange)
    problems = problems or missing(body, "session_id", "request_id")
    if problems:
        return exchange.answer(422, {"detail": problems})
    if adapter_of(worker, key_of(exchange)) is None:
        return exchange.answer(401, {"detail": "Invalid or missing API key"})
    chat = worker.streams.get(body["request_id"])
    found = chat is not None and chat.turn.session == body["session_id"]
    if found:
        chat.stopped = True
    exchange.answer(200, {"status": "cancelled" if found else "not_found",
                          "message": "Stream cancellation requested" if found else "Stream not found or already completed",
                          "session_id": body["session_id"], "request_id": body["request_id"]})
