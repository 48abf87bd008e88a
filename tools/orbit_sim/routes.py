"""ORBIT's route table: which handler answers what, at what cost, under which name in /metrics."""

import os
import re
import signal
import uuid
from urllib.parse import parse_qs

from . import a2a, chat, files, mcp, pages, websocket, wire
from .state import iso

NEEDS_AUTH = "Admin authentication or valid API key required"
POOLS = {"io": 50, "cpu": 30, "inference": 20, "embedding": 15, "db": 25}
ADAPTERS = ("simple-chat", "second-chat")
BREAKER = {"failure_threshold": 5, "recovery_timeout": 30, "success_threshold": 3, "max_recovery_timeout": 300.0}


def enter(worker, exchange):
    """A request past faults and limits. Everything it costs is spent on the virtual loop."""
    method, path, fields = exchange.method, exchange.path, exchange.fields
    settings = worker.settings
    if "upgrade" in fields and method == "GET" and fields["upgrade"].lower() == b"websocket":
        return worker.run(exchange, settings.request_ms, websocket.enter)
    if method == "OPTIONS" and "origin" in fields and "access-control-request-method" in fields:
        return worker.run(exchange, settings.request_ms, preflight)
    if method == "POST" and path in ("/v1/chat", "/v1/chat/completions"):
        exchange.endpoint = path
        return chat.start(worker, exchange)
    if path == "/mcp" or path == "/mcp/":
        return mcp.enter(worker, exchange)
    if method == "POST" and path == "/a2a":
        exchange.endpoint = path
        return a2a.enter(worker, exchange)
    cost = settings.probe_ms if path.startswith(("/health", "/metrics")) else settings.request_ms
    handler, names = EXACT.get((method, path)), {}
    endpoint = path
    if handler is None:
        for wanted, pattern, template, one in PATTERNS:
            match = pattern.fullmatch(path) if wanted == method else None
            if match:
                handler, names, endpoint = one, match.groupdict(), template
                break
    if handler is None:
        return worker.run(exchange, cost, lambda _, ex: ex.answer_text(404, "Not Found"))
    exchange.endpoint = endpoint
    if handler is login:
        cost = settings.login_ms
    worker.run(exchange, cost, handler, *names.values())


def preflight(worker, exchange):
    asked = [name.strip().lower() for name in exchange.field("access-control-request-headers").split(",") if name.strip()]
    allowed = {name.lower() for name in wire.CORS_ALLOWED}
    good = all(name in allowed for name in asked)
    exchange.answer_text(200 if good else 400, "OK" if good else "Disallowed CORS headers", bare=True, extra=wire.PREFLIGHT)


# --- who may ---

def admin(handler):
    """Routes under /admin: an admin's token or, as in ORBIT, any valid client key."""
    def guarded(worker, exchange, *names):
        if chat.is_admin(exchange) or chat.adapter_of(worker, chat.key_of(exchange)) is not None:
            return handler(worker, exchange, *names)
        exchange.answer(401, {"detail": NEEDS_AUTH})
    return guarded


def keyed(handler):
    """Client-facing routes: a client's key."""
    def guarded(worker, exchange, *names):
        if chat.adapter_of(worker, chat.key_of(exchange)) is None:
            return exchange.answer(401, {"detail": "Invalid or missing API key"})
        handler(worker, exchange, *names)
    return guarded


def constant(value, status=200):
    return lambda worker, exchange, *names: exchange.answer(status, value)


# --- health ---

def ready(worker, exchange):
    settings = worker.settings
    if settings.ready == "missing":
        return exchange.answer(503, {"ready": False, "reason": "Adapter manager not available"})
    total = settings.total_adapters
    healthy = min(settings.healthy_adapters, total)
    if settings.ready == "false" and total and healthy / total > 0.5:
        healthy = total // 2
    ratio = healthy / total if total else 0.0
    exchange.answer(200, {"ready": settings.ready == "true" and ratio > 0.5, "healthy_ratio": ratio,
                          "healthy_adapters": healthy, "total_adapters": total})


def breakers(worker):
    return {name: {"state": "closed", "success_rate": 0.0, "total_calls": 0, "consecutive_failures": 0,
                   "consecutive_successes": 0, "last_failure_time": None, "last_success_time": None,
                   "memory_usage": {"call_history_size": 0, "state_transitions_size": 0, "max_history_size": 10000,
                                    "max_transitions_size": 1000, "last_cleanup": worker.started,
                                    "cleanup_interval": 3600.0, "retention_period": 86400.0},
                   "exponential_backoff": {"enabled": True, "recovery_attempts": 0, "current_timeout": 30,
                                           "base_timeout": 30, "max_timeout": 300.0}} for name in ADAPTERS}


def health_adapters(worker, exchange):
    exchange.answer(200, {"fault_tolerance_enabled": True, "available_adapters": list(ADAPTERS),
                          "cached_adapters": list(ADAPTERS), "circuit_breakers": breakers(worker)})


def health_system(worker, exchange):
    exchange.answer(200, {"status": "healthy", "fault_tolerance": {"enabled": True, "adapters": breakers(worker)}})


def pools():
    return {name: {"max_workers": size, "active_threads": 0, "queued_tasks": 0} for name, size in POOLS.items()}


def thread_pools(worker, exchange):
    exchange.answer(200, {"timestamp": "unknown", "summary": {"total_workers": sum(POOLS.values()), "total_active": 0,
                                                              "total_queued": 0, "utilization_percent": 0.0},
                          "pools": pools()})


def adapter_history(worker, exchange, name):
    if name not in ADAPTERS:
        return exchange.answer(404, {"detail": f"Circuit breaker not found for adapter: {name}"})
    exchange.answer(200, {"adapter_name": name, "current_state": "closed",
                          "statistics": {"total_calls": 0, "total_successes": 0, "total_failures": 0, "timeout_calls": 0,
                                         "success_rate": 0.0, "consecutive_failures": 0, "consecutive_successes": 0,
                                         "last_success_time": None, "last_failure_time": None},
                          "call_history": [], "state_transitions": [], "configuration": BREAKER})


def reset_breaker(worker, exchange, name):
    if name not in ADAPTERS:
        return exchange.answer(404, {"detail": f"Circuit breaker not found for adapter: {name}"})
    exchange.answer(200, {"message": f"Circuit breaker reset for adapter: {name}", "adapter": name})


# --- small client routes ---

def autocomplete(worker, exchange):
    asked = parse_qs(exchange.query, keep_blank_values=True)
    text = asked.get("q", [None])[0]
    if text is None:
        return exchange.answer(422, {"detail": [chat.problem("missing", ["query", "q"], "Field required", None)]})
    if len(text) < 3:
        return exchange.answer(422, {"detail": [chat.problem("string_too_short", ["query", "q"],
                                                             "String should have at least 3 characters", text, min_length=3)]})
    exchange.answer(200, {"suggestions": [], "query": text})


def thread_create(worker, exchange):
    body, problems = chat.read_json(exchange)
    problems = problems or chat.missing(body, "message_id", "session_id")
    if problems:
        return exchange.answer(422, {"detail": problems})
    if not exchange.field("x-session-id").strip():
        return exchange.answer(400, {"detail": chat.NO_SESSION})
    exchange.answer(404, {"detail": "Parent message not found"})


def thread_missing(worker, exchange, thread):
    exchange.answer(404, {"detail": "Thread not found or expired"})


def feedback(worker, exchange):
    body, problems = chat.read_json(exchange)
    problems = problems or chat.missing(body, "message_id", "session_id", "feedback_type")
    if problems:
        return exchange.answer(422, {"detail": problems})
    worker.state.catch_up()
    session, message, vote = (str(body[name]) for name in ("session_id", "message_id", "feedback_type"))
    before = worker.state.feedback.get(session, {}).get(message)
    same = before is not None and before["feedback_type"] == vote
    shown = {"message_id": message, "feedback_type": vote, "comment": body.get("comment")}
    worker.state.record(op="feedback", session=session, message=message, vote=None if same else shown)
    exchange.answer(200, {**shown, "action": "removed" if same else "updated" if before else "created"})


def feedback_list(worker, exchange, session):
    worker.state.catch_up()
    exchange.answer(200, {"feedbacks": list(worker.state.feedback.get(session, {}).values())})


def agent_card(worker, exchange):
    exchange.answer(200, {
        "name": "ORBIT",
        "description": "Open Retrieval-Based Inference Toolkit — AI gateway with RAG, intent-SQL retrieval, and 37+ LLM "
                       "provider support.",
        "url": f"http://{exchange.field('host')}", "version": "1.0.0",
        "capabilities": {"streaming": True, "pushNotifications": False, "stateTransitionHistory": False},
        "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "chat", "name": "Chat", "description": "General-purpose chat with optional RAG retrieval",
                    "inputModes": ["text/plain"], "outputModes": ["text/plain"]}],
        "authentication": {"schemes": ["Bearer"]}})


# --- admin ---

def key_info(worker, exchange):
    adapter = chat.adapter_of(worker, chat.key_of(exchange)) or ADAPTERS[0]
    exchange.answer(200, {"client_name": "run-1" if adapter == ADAPTERS[0] else "run-2", "adapter_name": adapter,
                          "notes": None, "model": "fake-1", "isFileSupported": False, "supportsThreading": False,
                          "supportsRealtimeVoice": adapter == "voice"})


def adapter_models(worker, exchange, name):
    if name not in ADAPTERS:
        return exchange.answer(404, {"detail": f"Adapter '{name}' not found"})
    exchange.answer(200, {"adapter_name": name, "has_restrictions": True,
                          "models": [{"name": "fake-2", "provider": "openai", "model": "fake-2"}]})


def info(worker, exchange):
    worker.state.catch_up()
    exchange.answer(200, {"pid": os.getpid(), "version": "2.15.9", "status": "paused" if worker.state.paused else "running"})


def pause(paused):
    def handler(worker, exchange):
        worker.state.record(op="pause", paused=paused)
        exchange.answer(200, {"status": "success", "message": "Server paused" if paused else "Server resumed",
                              "timestamp": iso(zone="Z")})
    return handler


def reload_result(what):
    none = {"added": 0, "removed": 0, "updated": 0, "unchanged": 2, "total": 2, "added_names": [], "removed_names": [],
            "updated_names": []}
    return {"status": "success", "message": f"{what} reloaded: 0 added, 0 removed, 0 updated, 2 total", "summary": none,
            "timestamp": iso(zone="Z")}


def reloaded(worker):
    """The others follow only where every worker has a supervisor's pid."""
    if os.environ.get("ORBIT_SUPERVISOR_PID"):
        worker.state.record(op="reload")
        worker.reloads = max(worker.reloads, worker.state.reloads)
    else:
        worker.reloads += 1


def reload_now(what):
    def handler(worker, exchange):
        reloaded(worker)
        exchange.answer(200, reload_result(what))
    return handler


def reload_later(what):
    kind = "reload_" + what.lower()

    def handler(worker, exchange):
        job = {"job_id": str(uuid.uuid4()), "type": kind, "target": None, "status": "running", "message": "",
               "created_at": iso(zone="Z"), "updated_at": iso(zone="Z"), "result": None, "error": None}
        worker.jobs[job["job_id"]] = job
        while len(worker.jobs) > 1000:
            del worker.jobs[next(iter(worker.jobs))]

        def done():
            reloaded(worker)
            result = reload_result(what)
            job.update(status="completed", message=result["message"], result=result, updated_at=iso(zone="Z"))
        worker.loop.call_later(0.17, done)
        exchange.answer(200, {"status": "accepted", "job_id": job["job_id"],
                              "message": f"{what[:-1]} reload started in background"})
    return handler


def job(worker, exchange, number):
    found = worker.jobs.get(number)
    exchange.answer(200, found) if found else exchange.answer(404, {"detail": "Admin job not found"})


def shutdown(worker, exchange):
    supervisor = os.environ.get("ORBIT_SUPERVISOR_PID")
    worker.loop.call_later(0.5, os.kill, int(supervisor) if supervisor else os.getpid(), signal.SIGTERM)
    exchange.answer(200, {"status": "success", "message": "Server is shutting down", "timestamp": iso(zone="Z")})


def restart(worker, exchange):
    supervisor = os.environ.get("ORBIT_SUPERVISOR_PID")
    if worker.settings.multiworker or (supervisor and int(supervisor) != os.getpid()):
        return exchange.answer(501, {"detail": "/admin/restart is not supported when performance.workers > 1; use "
                                               "'orbit restart' instead"})
    worker.loop.call_later(0.5, worker.restart)
    exchange.answer(200, {"status": "success", "message": "Server is restarting", "timestamp": iso(zone="Z")})


def history(worker, exchange, session):
    worker.state.catch_up()
    messages = worker.state.history.get(session, [])
    exchange.answer(200, {"session_id": session, "messages": messages, "count": len(messages)})


def history_delete(worker, exchange, session):
    worker.state.catch_up()
    count = len(worker.state.history.get(session, []))
    worker.state.record(op="clear", session=session)
    exchange.answer(200, {"status": "success", "message": f"Cleared {count} messages from session {session}",
                          "session_id": session, "deleted_count": count, "timestamp": iso()})


def login(worker, exchange):
    body, problems = chat.read_json(exchange)
    problems = problems or chat.missing(body, "username", "password")
    if problems:
        return exchange.answer(422, {"detail": problems})
    if (body["username"], body["password"]) != ("admin", worker.settings.admin_password):
        return exchange.answer(401, {"detail": "Invalid username or password"})
    exchange.answer(200, {"token": uuid.uuid4().hex + uuid.uuid4().hex, "user": {"id": "1", "username": "admin",
                                                                                  "role": "admin", "active": True}})


def prompt_write(worker, exchange, number):
    body, problems = chat.read_json(exchange)
    if problems:
        return exchange.answer(422, {"detail": problems})
    worker.state.record(op="prompt", id=number, text=str(body.get("prompt", "")))
    exchange.answer(200, {"id": number, "name": str(body.get("name", number)), "prompt": worker.state.prompts[number],
                          "version": str(body.get("version", "1.0"))})


def prompt_read(worker, exchange, number):
    worker.state.catch_up()
    text = worker.state.prompts.get(number)
    if text is None:
        return exchange.answer(404, {"detail": "Prompt not found"})
    exchange.answer(200, {"id": number, "name": number, "prompt": text, "version": "1.0"})


def key_create(worker, exchange):
    body, problems = chat.read_json(exchange)
    problems = problems or chat.missing(body, "client_name")
    if problems:
        return exchange.answer(422, {"detail": problems})
    exchange.answer(200, {"api_key": "orbit_" + uuid.uuid4().hex, "client_name": body["client_name"], "notes": None,
                          "created_at": iso(), "active": True, "adapter_name": body.get("adapter_name", ADAPTERS[0])})


def metrics_text(worker, exchange):
    exchange.answer_text(200, worker.metrics.text())


def metrics_json(worker, exchange):
    exchange.answer(200, worker.metrics.json())


def favicon(worker, exchange):
    exchange.respond(204, b"")


def page(content):
    def handler(worker, exchange, *names):
        exchange.respond(200, b"content-length: %d\r\ncontent-type: text/html; charset=utf-8\r\n" % len(content), content)
    return handler


def openapi(worker, exchange):
    paths = {}
    for method, template in DOCUMENTED:
        paths.setdefault(template, {})[method.lower()] = {"responses": {"200": {"description": "Successful Response"}}}
    exchange.answer(200, {"openapi": "3.1.0", "info": {"title": "ORBIT", "version": "2.15.9"}, "paths": paths})


SUCCESS = {"status": "success"}

HANDLERS = {
    "GET /.well-known/agent.json": agent_card,
    "GET /admin": page(pages.LOGIN),
    "GET /admin/adapters/info": keyed(key_info),
    "GET /admin/adapters/{adapter_name}/models": keyed(adapter_models),
    "GET /admin/adapters/{adapter_name}/skills": keyed(constant({"skills": []})),
    "GET /admin/api-keys": admin(constant([])),
    "POST /admin/api-keys": admin(key_create),
    "GET /admin/api-keys/info": keyed(key_info),
    "GET /admin/chat-history/{session_id}": admin(history),
    "DELETE /admin/chat-history/{session_id}": keyed(history_delete),
    "DELETE /admin/conversations/{session_id}": keyed(history_delete),
    "GET /admin/info": admin(info),
    "GET /admin/jobs/{job_id}": admin(job),
    "GET /admin/login": page(pages.LOGIN),
    "GET /admin/models": keyed(constant({"models": [{"name": "openai-fake-1", "provider": "openai", "model": "fake-1"}]})),
    "POST /admin/pause": admin(pause(True)),
    "POST /admin/resume": admin(pause(False)),
    "GET /admin/prompts/{prompt_id}": admin(prompt_read),
    "PUT /admin/prompts/{prompt_id}": admin(prompt_write),
    "POST /admin/reload-adapters": admin(reload_now("Adapters")),
    "POST /admin/reload-adapters/async": admin(reload_later("Adapters")),
    "POST /admin/reload-templates": admin(reload_now("Templates")),
    "POST /admin/reload-templates/async": admin(reload_later("Templates")),
    "POST /admin/mcp/reload": admin(reload_now("Servers")),
    "POST /admin/restart": admin(restart),
    "POST /admin/shutdown": admin(shutdown),
    "GET /admin/skills": keyed(constant({"skills": []})),
    "POST /api/feedback": keyed(feedback),
    "GET /api/feedback/{session_id}": keyed(feedback_list),
    "GET /api/files": files.listed,
    "DELETE /api/files": files.delete_all,
    "POST /api/files/upload": files.upload,
    "POST /api/files/reprocess": files.reprocess_all,
    "GET /api/files/{file_id}": files.shown,
    "DELETE /api/files/{file_id}": files.delete,
    "GET /api/files/{file_id}/content": files.content,
    "POST /api/files/{file_id}/query": files.query,
    "POST /api/files/{file_id}/reprocess": files.reprocess,
    "POST /api/threads": keyed(thread_create),
    "GET /api/threads/{thread_id}": keyed(thread_missing),
    "DELETE /api/threads/{thread_id}": keyed(thread_missing),
    "POST /auth/login": login,
    "GET /docs": page(pages.DOCS),
    "GET /redoc": page(pages.DOCS),
    "GET /openapi.json": openapi,
    "GET /favicon.ico": favicon,
    "GET /health": constant({"status": "ok"}),
    "GET /health/": constant({"status": "healthy"}),
    "GET /health/adapters": health_adapters,
    "GET /health/adapters/{adapter_name}/history": adapter_history,
    "GET /health/adapters/{adapter_name}/history/full": adapter_history,
    "POST /health/adapters/{adapter_name}/reset": reset_breaker,
    "GET /health/embedding-services": constant({"total_cached_instances": 0, "cached_providers": [],
                                                "memory_info": "0 embedding service instances cached"}),
    "GET /health/mongodb-services": constant({"error": "No module named 'motor'"}, 500),
    "GET /health/ready": ready,
    "GET /health/system": health_system,
    "GET /health/thread-pools": thread_pools,
    "POST /health/thread-pools/log-status": constant({"message": "Thread pool status logged"}),
    "GET /metrics": metrics_text,
    "GET /metrics/json": metrics_json,
    "GET /v1/autocomplete": keyed(autocomplete),
    "POST /v1/chat/stop": chat.stop,
    "GET /voice/status": constant({"available": False, "error": "'DynamicAdapterManager' object has no attribute "
                                                               "'get_all_adapter_names'"}),
}

# Routes that ORBIT has and of whose answers nothing was captured: authorised like their neighbours, then success.
PLAIN = """
POST /admin/adapters|GET /admin/adapters/answer-options|GET /admin/adapters/capabilities|GET /admin/adapters/config
GET /admin/adapters/config/entry/{adapter_name}|PUT /admin/adapters/config/entry/{adapter_name}
PATCH /admin/adapters/config/entry/{adapter_name}/toggle|GET /admin/adapters/config/{filename}
PUT /admin/adapters/config/{filename}|POST /admin/adapters/import|POST /admin/adapters/import/format
POST /admin/adapters/preview|GET /admin/adapters/specs|DELETE /admin/adapters/{adapter_name}
GET /admin/adapters/{adapter_name}/edit-form|GET /admin/adapters/{adapter_name}/export
POST /admin/adapters/{adapter_name}/test-query|DELETE /admin/api-keys/{api_key_id}|PUT /admin/api-keys/{api_key_id}
POST /admin/api-keys/{api_key_id}/deactivate|GET /admin/api-keys/{api_key_id}/detail
POST /admin/api-keys/{api_key_id}/prompt|GET /admin/api-keys/{api_key_id}/quota|PUT /admin/api-keys/{api_key_id}/quota
POST /admin/api-keys/{api_key_id}/quota/reset|PATCH /admin/api-keys/{api_key_id}/rename
GET /admin/api-keys/{api_key_id}/status|GET /admin/api/feedback-analytics|GET /admin/api/token|GET /admin/audit/events
GET /admin/auth/{provider}/callback|GET /admin/auth/{provider}/login|GET /admin/config|PUT /admin/config
GET /admin/config/sections|GET /admin/config/sections/{key}|PUT /admin/config/sections/{key}|GET /admin/export
POST /admin/login|POST /admin/logout|GET /admin/logs/files|GET /admin/logs/tail|PATCH /admin/mcp/defaults
GET /admin/mcp/servers|POST /admin/mcp/servers|DELETE /admin/mcp/servers/{server_name}
PATCH /admin/mcp/servers/{server_name}|GET /admin/mcp/tools|GET /admin/observability/usage|GET /admin/prompts
POST /admin/prompts|DELETE /admin/prompts/{prompt_id}|GET /admin/quotas/usage-report|POST /admin/render-markdown
GET /auth/blacklist|POST /auth/blacklist|DELETE /auth/blacklist/{rule_id}|PUT /auth/blacklist/{rule_id}
POST /auth/change-password|POST /auth/logout|GET /auth/me|POST /auth/register|POST /auth/reset-password|GET /auth/roles
GET /auth/users|GET /auth/users/by-username|DELETE /auth/users/{user_id}|POST /auth/users/{user_id}/activate
POST /auth/users/{user_id}/deactivate|PUT /auth/users/{user_id}/roles
"""
for _route in re.split(r"[|\n]", PLAIN.strip()):
    HANDLERS[_route] = admin(constant(SUCCESS))

DOCUMENTED = [tuple(route.split(" ", 1)) for route in HANDLERS] + [
    ("POST", "/v1/chat"), ("POST", "/v1/chat/completions"), ("POST", "/a2a")]
EXACT = {}
PATTERNS = [("GET", re.compile(r"/static/(?P<name>.+)"), "/static", lambda _, ex, name: ex.answer_text(404, "Not Found"))]
for (_method, _template), _handler in zip(DOCUMENTED, HANDLERS.values()):
    if "{" in _template:
        PATTERNS.append((_method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", _template)), _template, _handler))
    else:
        EXACT[_method, _template] = _handler
