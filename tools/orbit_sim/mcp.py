"""/mcp: streamable HTTP with sessions in this process's memory, Host checked, tools that run inside the worker."""

import json
import uuid

from . import chat, wire

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
STREAM = (b"cache-control: no-cache, no-transform\r\nconnection: keep-alive\r\ncontent-type: text/event-stream\r\n"
          b"mcp-session-id: %b\r\nx-accel-buffering: no\r\n")
LIST_SIZE = 0x168d9 - len("event: message\r\ndata: \r\n\r\n")  # as long as the real one, at least
SESSIONS_KEPT = 10_000


def enter(worker, exchange):
    worker.run(exchange, worker.settings.request_ms, handle)


def handle(worker, exchange):
    host = exchange.field("host")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name not in LOOPBACK:
        return exchange.answer_text(400, "Invalid Host header", bare=True)
    if exchange.path == "/mcp/":
        return exchange.respond(307, b"content-length: 0\r\nlocation: http://%b/mcp\r\n" % host.encode())
    session = exchange.field("mcp-session-id")
    if exchange.method not in ("GET", "POST", "DELETE"):
        return exchange.answer_text(404, "Not Found")
    message = {}
    if exchange.method == "POST":
        try:
            message = json.loads(exchange.body)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            return session_error(exchange, 400, -32700, "Parse error", uuid.uuid4().hex)
        if message.get("method") == "initialize":
            return initialize(worker, exchange, message)
    if not session:
        return session_error(exchange, 400, -32600, "Bad Request: Missing session ID", uuid.uuid4().hex)
    if session not in worker.mcp_sessions:
        return exchange.answer(404, error(-32600, "Session not found"))
    if exchange.method == "DELETE":
        del worker.mcp_sessions[session]
        return empty(exchange, 200, session)
    if exchange.method == "GET":
        return exchange.start_stream(STREAM % session.encode())  # held open, silent, until the client leaves
    if "id" not in message:
        return empty(exchange, 202, session)
    method = message.get("method")
    if method == "tools/list":
        return reply(exchange, session, {"jsonrpc": "2.0", "id": message["id"], "result": tools()})
    if method == "tools/call":
        return call(worker, exchange, session, message)
    if method == "ping":
        return reply(exchange, session, {"jsonrpc": "2.0", "id": message["id"], "result": {}})
    reply(exchange, session, {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "Method not found"}})


def error(code, text):
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": text}}


def session_error(exchange, status, code, text, session):
    body = wire.compact(error(code, text))
    exchange.respond(status, b"content-type: application/json\r\nmcp-session-id: %b\r\ncontent-length: %d\r\n"
                     % (session.encode(), len(body)), body)


def empty(exchange, status, session):
    exchange.respond(status, b"content-type: application/json\r\nmcp-session-id: %b\r\ncontent-length: 0\r\n" % session.encode())


def reply(exchange, session, value):
    exchange.start_stream(STREAM % session.encode())
    exchange.send(b"event: message\r\ndata: " + wire.compact(value) + b"\r\n\r\n")
    exchange.end_stream()


def initialize(worker, exchange, message):
    session = uuid.uuid4().hex
    worker.mcp_sessions[session] = True
    while len(worker.mcp_sessions) > SESSIONS_KEPT:
        del worker.mcp_sessions[next(iter(worker.mcp_sessions))]
    wanted = message.get("params", {}).get("protocolVersion", "2025-06-18")
    reply(exchange, session, {"jsonrpc": "2.0", "id": message.get("id"), "result": {
        "protocolVersion": wanted,
        "capabilities": {"logging": {}, "prompts": {"listChanged": True},
                         "resources": {"subscribe": False, "listChanged": True}, "tools": {"listChanged": True}},
        "serverInfo": {"name": "ORBIT", "version": "4.1.2"}}})


# --- tools ---

def optional(kind, title):
    return {"anyOf": [kind, {"type": "null"}], "title": title}


def tool(name, description, properties, required):
    return {"_meta": {"fastmcp": {"tags": []}}, "description": description,
            "inputSchema": {"properties": properties, "required": required, "type": "object"},
            "name": name, "title": name.replace("_", " ").title()}


def tools():
    global _tools
    if _tools is None:
        text = {"type": "string"}
        native = {"messages": {"items": {"additionalProperties": text, "type": "object"}, "type": "array", "title": "Messages"},
                  "stream": {"type": "boolean", "title": "Stream", "default": False}}
        for name in ("model", "skill"):
            native[name] = optional(text, name.title())
        native["file_ids"] = optional({"items": text, "type": "array"}, "File Ids")
        for name in ("thread_id", "audio_input", "audio_format", "language"):
            native[name] = optional(text, name.replace("_", " ").title())
        native["return_audio"] = optional({"type": "boolean"}, "Return Audio")
        for name in ("tts_voice", "source_language", "target_language", "regenerate_of_message_id"):
            native[name] = optional(text, name.replace("_", " ").title())
        openai = {"model": optional(text, "Model"),
                  "messages": {"items": {"additionalProperties": True, "type": "object"}, "type": "array", "title": "Messages"},
                  "stream": {"type": "boolean", "title": "Stream", "default": False}}
        made = [tool("favicon_favicon_ico_get", "Favicon", {}, []),
                tool("chat", "Process a chat request and return a response.\nThis endpoint is now a standard RESTful "
                             "endpoint.\nThe fastmcp library will expose it as an MCP tool.", native, ["messages"]),
                tool("chat_completions", "OpenAI-compatible chat completions endpoint so the official OpenAI\nPython SDK (and "
                                         "other compatible clients) can talk to ORBIT.", openai, ["messages"])]
        from .routes import DOCUMENTED
        for method, template in DOCUMENTED:
            name = template.strip("/").replace("/", "_").replace("{", "").replace("}", "") or "root"
            made.append(tool(f"{name}_{method.lower()}", f"{method} {template}", {}, []))
        size = len(wire.compact({"jsonrpc": "2.0", "id": 2, "result": {"tools": made}}))
        made[-1]["description"] += " " * max(LIST_SIZE - size, 0)
        _tools = {"tools": made}
    return _tools


_tools = None


def call(worker, exchange, session, message):
    """The tool `chat` runs a chat here; other tools are not played."""
    params = message.get("params") or {}
    arguments = params.get("arguments") or {}

    def deliver(_, status, value):
        answer = {"content": [{"text": wire.compact(value).decode(), "type": "text"}], "isError": status >= 400}
        if status < 400:
            answer["structuredContent"] = value
        reply(exchange, session, {"jsonrpc": "2.0", "id": message["id"], "result": answer})

    if params.get("name") != "chat":
        return deliver(exchange, 404, {"detail": f"Unknown tool: {params.get('name')}"})
    problems = chat.check_chat(arguments, strings_only=True) if isinstance(arguments, dict) else ["arguments"]
    if problems:
        return deliver(exchange, 422, {"detail": problems})
    worker.state.catch_up()
    if worker.state.paused:
        return deliver(exchange, 503, {"detail": "Server is paused"})
    key = chat.key_of(exchange)
    adapter = chat.adapter_of(worker, key)
    if adapter is None:
        return deliver(exchange, 401, {"detail": "Invalid or missing API key"})
    owner = exchange.field("x-session-id").strip()
    if not owner:
        return deliver(exchange, 400, {"detail": chat.NO_SESSION})
    if worker.state.owners.get(owner, key) != key:
        return deliver(exchange, 403, {"detail": "Access denied"})
    messages = arguments["messages"]
    turn = chat.Turn(key, owner, adapter, messages[-1].get("content", "") if messages else "", arguments.get("model"),
                     exchange.connection.peer[0])
    chat.Answered(worker, exchange, turn, chat.Plan(worker, turn.prompt, exchange.fault), deliver, chat.Native).begin()
