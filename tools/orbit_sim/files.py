"""/api/files: uploads are held whole in memory, extraction runs a little later in this process, other keys get 403."""

import re
import uuid

from . import chat
from .state import iso

LIMIT = 52_428_800
TYPES = {"text/plain", "text/markdown", "text/csv", "text/html", "application/json", "application/pdf", "image/png",
         "image/jpeg", "audio/wav", "audio/mpeg"}
SHOWN = ("file_id", "filename", "mime_type", "file_size", "upload_timestamp", "processing_status", "chunk_count",
         "storage_type", "error_message")
PROCESSING_S = 0.5
CONTENT_KEPT = 64 * 1024  # of each file


def key_for(worker, exchange):
    """Only X-API-Key counts here. None: answered."""
    key = exchange.field("x-api-key")
    if not key:
        exchange.answer(401, {"detail": "API key required"})
        return None
    if chat.adapter_of(worker, key) is None:
        exchange.answer(401, {"detail": "Invalid API key"})
        return None
    worker.state.catch_up()
    return key


def find(worker, exchange, number):
    """The file if it exists and is the caller's. None: answered."""
    key = key_for(worker, exchange)
    if key is None:
        return None
    found = worker.state.files.get(number)
    if found is None:
        exchange.answer(404, {"detail": "File not found"})
    elif found["key"] != key:
        exchange.answer(403, {"detail": "Access denied"})
    else:
        return found
    return None


def view(found):
    return {name: found[name] for name in SHOWN}


def parse_upload(exchange):
    """(filename, type, bytes) of the multipart field `file`, or None."""
    boundary = re.search(r'boundary="?([^";]+)"?', exchange.field("content-type"))
    if not boundary:
        return None
    for part in exchange.body.split(b"--" + boundary[1].encode("latin-1"))[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        head = head.decode("utf-8", "replace")
        if re.search(r'name="file"', head):
            filename = re.search(r'filename="([^"]*)"', head)
            kind = re.search(r"(?i)content-type:\s*([^\r\n;]+)", head)
            return (filename[1] if filename else "file", kind[1].strip() if kind else "text/plain", content[:-2])
    return None


def upload(worker, exchange):
    key = key_for(worker, exchange)
    if key is None:
        return
    part = parse_upload(exchange)
    if part is None:
        return exchange.answer(422, {"detail": [chat.problem("missing", ["body", "file"], "Field required", None)]})
    filename, kind, content = part
    if len(content) > LIMIT:
        return exchange.answer(400, {"detail": f"File size exceeds maximum {LIMIT} bytes"})
    if kind not in TYPES:
        return exchange.answer(400, {"detail": f"Unsupported file type: {kind}"})
    made = {"file_id": str(uuid.uuid4()), "filename": filename, "mime_type": kind, "file_size": len(content),
            "upload_timestamp": iso(), "processing_status": "processing", "chunk_count": 0, "storage_type": "vector",
            "error_message": None, "key": key, "content": content[:CONTENT_KEPT].decode("latin-1")}
    worker.state.record(op="file", file=made)
    process_later(worker, made["file_id"])
    exchange.answer(200, {"file_id": made["file_id"], "filename": filename, "mime_type": kind, "file_size": len(content),
                          "status": "processing", "chunk_count": 0, "message": "File uploaded, processing in background"})


def process_later(worker, number):
    """In this process's memory: if it dies, the file stays `processing` for ever."""
    def done():
        found = worker.state.files.get(number)
        if found is not None:
            worker.state.record(op="file", file={**found, "processing_status": "completed",
                                                 "chunk_count": found["file_size"] // 1000 + 1})
    worker.loop.call_later(PROCESSING_S, done)


def listed(worker, exchange):
    key = key_for(worker, exchange)
    if key is not None:
        exchange.answer(200, [view(one) for one in worker.state.files.values() if one["key"] == key])


def shown(worker, exchange, number):
    found = find(worker, exchange, number)
    if found:
        exchange.answer(200, view(found))


def content(worker, exchange, number):
    found = find(worker, exchange, number)
    if found:
        body = found["content"].encode("latin-1")
        kind = found["mime_type"] + ("; charset=utf-8" if found["mime_type"].startswith("text/") else "")
        exchange.respond(200, b"content-length: %d\r\ncontent-type: %b\r\n" % (len(body), kind.encode()), body)


def query(worker, exchange, number):
    body, problems = chat.read_json(exchange)
    if not problems:
        problems = chat.missing(body, "query_request")
    if problems:
        return exchange.answer(422, {"detail": problems})
    found = find(worker, exchange, number)
    if found:
        exchange.answer(200, {"file_id": number, "filename": found["filename"],
                              "results": [{"content": found["content"][:200], "score": 0.5, "chunk_index": 0}]})


def delete(worker, exchange, number):
    if find(worker, exchange, number):
        worker.state.record(op="unfile", id=number)
        exchange.answer(200, {"message": "File deleted successfully", "file_id": number})


def delete_all(worker, exchange):
    key = key_for(worker, exchange)
    if key is None:
        return
    mine = [number for number, one in worker.state.files.items() if one["key"] == key]
    for number in mine:
        worker.state.record(op="unfile", id=number)
    exchange.answer(200, {"message": "Files deleted successfully", "deleted_count": len(mine)})


def reprocess(worker, exchange, number):
    found = find(worker, exchange, number)
    if found:
        worker.state.record(op="file", file={**found, "processing_status": "processing", "chunk_count": 0})
        process_later(worker, number)
        exchange.answer(200, {"file_id": number, "status": "processing", "message": "File reprocessing started"})


def reprocess_all(worker, exchange):
    key = key_for(worker, exchange)
    if key is None:
        return
    mine = [number for number, one in worker.state.files.items() if one["key"] == key]
    for number in mine:
        process_later(worker, number)
    exchange.answer(200, {"message": "File reprocessing started", "count": len(mine)})
