"""A WebSocket echo server that holds its client to RFC 6455 (and 7692 where compression was agreed on): what a frame
should bring about, it brings about, with the close code that the RFC names. For scripted workers."""

import base64
import codecs
import hashlib
import struct
import zlib

ECHO = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TAIL = b"\x00\x00\xff\xff"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LONGEST = 16 * 1024 * 1024


class Broken(Exception):
    """The client broke the protocol; the code says how."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Gone(Exception):
    """The client's side ended without a close frame."""


def frame(opcode, payload, fin=True, reserved=0, mask=None, length_form=None):
    """One frame. `length_form`: 7, 16 or 64 bits of length, whatever fits being the default."""
    size = len(payload)
    form = length_form or (7 if size < 126 else 16 if size < 65536 else 64)
    bit = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    if form == 7:
        head += bytes([bit | size])
    else:
        head += bytes([bit | (126 if form == 16 else 127)]) + struct.pack("!H" if form == 16 else "!Q", size)
    return head + (b"" if mask is None else mask + masked(payload, mask))


def masked(payload, mask):
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big") if size else b""


def deflated(payload):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def good_code(code):
    return code in (1000, 1001, 1002, 1003, *range(1007, 1012)) or 3000 <= code <= 4999


class Echo:
    def __init__(self, connection, compressed):
        self.connection = connection
        self.compressed = compressed
        self.opcode = None  # of the message whose fragments are coming
        self.packed = False
        self.parts = []
        self.decoder = None

    def take(self, size):
        data = self.connection.take(size)
        if data is None:
            raise Gone
        return data

    def serve(self):
        """Until one side closes."""
        try:
            while self.one():
                pass
        except Broken as broken:
            self.connection.send(frame(CLOSE, struct.pack("!H", broken.code)))
        except Gone:
            pass
        self.connection.fin()

    def one(self):
        first, second = self.take(2)
        fin, reserved, opcode, size = first >> 7, first >> 4 & 7, first & 15, second & 127
        starts = opcode in (TEXT, BINARY)
        if reserved & ~(4 if self.compressed and starts else 0):
            raise Broken(1002)
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG) or not second >> 7:
            raise Broken(1002)
        if opcode >= CLOSE and (not fin or size > 125):
            raise Broken(1002)
        if opcode == CONTINUATION and self.opcode is None or starts and self.opcode is not None:
            raise Broken(1002)
        if size >= 126:
            form = size
            size = struct.unpack("!H" if form == 126 else "!Q", self.take(2 if form == 126 else 8))[0]
            if size < (126 if form == 126 else 65536) or size >> 63:
                raise Broken(1002)
            if size > LONGEST:
                raise Broken(1009)
        mask = self.take(4)
        payload = masked(self.take(size), mask)
        if opcode == PING:
            self.connection.send(frame(PONG, payload))
        elif opcode == CLOSE:
            return self.close(payload)
        elif opcode != PONG:
            self.data(opcode, bool(fin), bool(reserved), payload)
        return True

    def close(self, payload):
        if len(payload) == 1 or payload and not good_code(struct.unpack("!H", payload[:2])[0]):
            raise Broken(1002)
        try:
            payload[2:].decode()
        except UnicodeDecodeError:
            raise Broken(1007) from None
        self.connection.send(frame(CLOSE, payload))
        return False

    def data(self, opcode, fin, packed, payload):
        if opcode != CONTINUATION:
            self.opcode, self.packed, self.parts = opcode, packed, []
            self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.parts.append(payload)
        if self.opcode == TEXT and not self.packed:
            self.check(payload, fin)  # as soon as it can be known
        if not fin:
            return
        whole, again, reserved = b"".join(self.parts), None, 0
        if self.packed:
            try:
                again = zlib.decompressobj(-15).decompress(whole + TAIL)
            except zlib.error:
                raise Broken(1002) from None
            if self.opcode == TEXT:
                self.check(again, True)
            whole, reserved = deflated(again), 4
        self.connection.send(frame(self.opcode, whole, reserved=reserved))
        self.opcode = None

    def check(self, text, final):
        try:
            self.decoder.decode(text, final)
        except UnicodeDecodeError:
            raise Broken(1007) from None


def script(connection, request):
    """For scripted.Worker: accepts every upgrade."""
    fields = request.fields
    key = fields.get("sec-websocket-key", "").encode()
    accept = base64.b64encode(hashlib.sha1(key + ECHO).digest())
    compressed = "permessage-deflate" in fields.get("sec-websocket-extensions", "")
    agreed = (
        b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
        if compressed
        else b""
    )
    connection.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, agreed)
    )
    Echo(connection, compressed).serve()
    return "end"
