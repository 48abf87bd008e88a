"""Reading HTTP/1.1 as h11 does under uvicorn: lenient where it is lenient, refusing what it refuses. Pure."""

import re
from urllib.parse import unquote_to_bytes

HEAD_LIMIT = 256 * 1024  # bytes of an unfinished head; the real one takes at least 70 kB
END_OF_HEAD = re.compile(rb"\n\r?\n")
TOKEN_CHARS = rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN_CHARS + rb") ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")
FIELD = re.compile(rb"(" + TOKEN_CHARS + rb"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
CHUNK_HEAD = re.compile(rb"([0-9A-Fa-f]{1,20})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?[ \t]*\r?")


class Malformed(ValueError):
    """400 and close."""


class Head:
    """`fields` maps lower-case names to values, the first one where a name comes twice."""

    __slots__ = ("method", "target", "path", "query", "version", "fields", "length", "chunked", "keep_alive", "raw")


def find_end(buffer, start):
    """Where the head ends in `buffer`, or -1. `start`: nothing ends before it."""
    match = END_OF_HEAD.search(buffer, max(start - 3, 0))
    return match.end() if match else -1


def parse_head(raw):
    lines = raw.split(b"\n")
    head = Head()
    head.raw = raw
    request = REQUEST_LINE.fullmatch(strip_cr(lines[0]))
    if not request:
        raise Malformed
    head.method = request[1].decode()
    head.version = request[3]
    if head.version not in (b"1.1", b"1.0"):
        raise Malformed
    fields = head.fields = {}
    hosts = 0
    lengths = set()
    codings = []
    connection = b""
    name = None
    for line in lines[1:-2]:
        line = strip_cr(line)
        if line[:1] in (b" ", b"\t"):
            if name is None:
                raise Malformed
            fields[name] += b" " + line.strip(b" \t")
            continue
        match = FIELD.fullmatch(line)
        if not match:
            raise Malformed
        name, value = match[1].lower().decode(), match[2]
        if name == "host":
            hosts += 1
        elif name == "content-length":
            lengths.update(part.strip() for part in value.split(b","))
        elif name == "transfer-encoding":
            codings.append(value.lower())
        elif name == "connection":
            connection += b"," + value.lower()
        fields.setdefault(name, value)
    if hosts > 1 or (hosts == 0 and head.version == b"1.1"):
        raise Malformed
    if len(lengths) > 1 or any(not re.fullmatch(rb"[0-9]{1,20}", length) for length in lengths):
        raise Malformed
    if codings and codings != [b"chunked"]:
        raise Malformed
    head.chunked = bool(codings)
    head.length = int(next(iter(lengths))) if lengths and not codings else 0
    head.keep_alive = head.version == b"1.1" and b"close" not in [part.strip() for part in connection.split(b",")]
    target = request[2]
    head.target = target.decode()
    path, _, query = target.partition(b"?")
    if path[:1] != b"/":
        path = re.sub(rb"^[a-zA-Z][-+.a-zA-Z0-9]*://[^/]*", b"", path) or b"/"
    head.path = unquote_to_bytes(path).decode("utf-8", "replace") if b"%" in path else path.decode()
    head.query = query.decode()
    return head


def strip_cr(line):
    return line[:-1] if line[-1:] == b"\r" else line


class ChunkReader:
    """Takes chunks off the front of a bytearray."""

    def __init__(self):
        self.left = None   # bytes of the running chunk, None between chunks
        self.tail = False  # reading trailers

    def feed(self, buffer, body):
        """True when the body is whole. What belongs to the next request stays in `buffer`."""
        while True:
            if self.left is None:
                at = buffer.find(b"\n")
                if at < 0:
                    if len(buffer) > HEAD_LIMIT:
                        raise Malformed
                    return False
                line = bytes(buffer[:at])
                if self.tail:
                    del buffer[:at + 1]
                    if line in (b"", b"\r"):
                        return True
                    continue
                match = CHUNK_HEAD.fullmatch(line)
                if not match:
                    raise Malformed
                del buffer[:at + 1]
                size = int(match[1], 16)
                if size == 0:
                    self.tail = True
                    continue
                self.left = size
            if self.left > 0:
                taken = min(self.left, len(buffer))
                body += buffer[:taken]
                del buffer[:taken]
                self.left -= taken
                if self.left > 0:
                    return False
            if len(buffer) < 2:
                return False
            if buffer[:2] != b"\r\n":
                raise Malformed
            del buffer[:2]
            self.left = None
