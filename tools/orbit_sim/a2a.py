"""/a2a: JSON-RPC over POST, key as Bearer, tasks in this process's memory; errors are 200."""

import json

from . import chat, wire

TASKS_KEPT = 10_000


def enter(worker, exchange):
    worker.run(exchange, worker.settings.request_ms, handle)


def fail(exchange, number, code, text):
    exchange.answer(200, {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}})


def handle(worker, exchange):
    authorization = exchange.field("authorization")
    if not authorization.startswith("Bearer "):
        return exchange.answer(401, {"detail": "Missing Bearer token"})
    key = authorization[7:]
    adapter = chat.adapter_of(worker, key)
    if adapter is None:
        return exchange.answer(401, {"detail": "Invalid or missing API key"})
    try:
        message = json.loads(exchange.body)
    except ValueError:
        return fail(exchange, None, -32700, "Parse error")
    if not isinstance(message, dict) or not isinstance(message.get("params", {}), dict):
        return fail(exchange, None, -32600, "Invalid Request")
    number, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if method in ("tasks/send", "tasks/sendSubscribe"):
        worker.state.catch_up()
        if worker.state.paused:
            return fail(exchange, number, -32000, "Server is paused")
        return send(worker, exchange, number, key, adapter, params, stream=method == "tasks/sendSubscribe")
    if method not in ("tasks/get", "tasks/cancel"):
        return fail(exchange, number, -32601, "Method not found")
    task = worker.a2a_tasks.get(params.get("id"))
    if task is None:
        return fail(exchange, number, -32001, "Task not found")
    if method == "tasks/cancel":
        task["status"] = {"state": "canceled"}  # relabels, stops nothing
    exchange.answer(200, {"jsonrpc": "2.0", "id": number, "result": task})


def prompt_of(params):
    try:
        return " ".join(part["text"] for part in params["message"]["parts"] if part.get("type", "text") == "text")
    except (KeyError, TypeError, AttributeError):
        return None


def send(worker, exchange, number, key, adapter, params, stream):
    task_id, prompt = params.get("id"), prompt_of(params)
    if not isinstance(task_id, str) or not isinstance(prompt, str):
        return fail(exchange, number, -32602, "Invalid params")
    if worker.state.owners.get(task_id, key) != key:
        return exchange.answer(403, {"detail": "Access denied"})
    turn = chat.Turn(key, task_id, adapter, prompt, None, exchange.connection.peer[0])
    plan = chat.Plan(worker, prompt, exchange.fault)
    task = {"id": task_id, "status": {"state": "working"},
            "history": [{"role": "user", "parts": [{"type": "text", "text": prompt}]}], "artifacts": []}
    worker.a2a_tasks[task_id] = task
    while len(worker.a2a_tasks) > TASKS_KEPT:
        del worker.a2a_tasks[next(iter(worker.a2a_tasks))]
    if stream:
        chat.Streamed(worker, exchange, turn, plan, Events(number, task, plan)).begin()
    else:
        chat.Answered(worker, exchange, turn, plan, chat.deliver_json, Result(number, task)).begin()


def complete(task, plan):
    parts = [{"type": "text", "text": wire.answer_text(plan.tokens)}]
    task["status"] = {"state": "completed"}
    task["history"].append({"role": "agent", "parts": parts})
    task["artifacts"] = [{"name": "response", "parts": parts}]


class Result:
    """tasks/send"""

    def __init__(self, number, task):
        self.number = number
        self.task = task

    def answer(self, turn, plan, message_id):
        complete(self.task, plan)
        return {"jsonrpc": "2.0", "id": self.number, "result": self.task}

    def failure(self, text):
        self.task["status"] = {"state": "failed"}
        return 200, {"jsonrpc": "2.0", "id": self.number, "error": {"code": -32000, "message": text}}


class Events:
    """tasks/sendSubscribe: a dialect of chat.Streamed."""

    chunks = None
    request_id = None

    def __init__(self, number, task, plan):
        self.number = number
        self.task = task
        self.plan = plan

    def event(self, **result):
        return wire.event({"jsonrpc": "2.0", "id": self.number, "result": {"id": self.task["id"], **result}})

    def fields(self):
        return wire.EVENT_STREAM % b""

    def opening(self):
        return [self.event(status={"state": "working"}, final=False)]

    def token(self, at, content):
        return self.event(artifact={"name": "response", "parts": [{"type": "text", "text": json.loads(content)}],
                                    "append": True, "lastChunk": False}, final=False)

    def refused(self, text):
        return [self.event(status={"state": "failed"}, final=True)]

    def terminal(self, message_id):
        complete(self.task, self.plan)
        return [self.event(status={"state": "completed"}, final=True)]

    def failed(self):
        return []

    stopped = failed
