"""WebSockets through the tunnel: whatever a client says, in whatever pieces, the answer is byte for byte what it is
without perigee in between. The server holds clients to the RFC, so that good and bad frames end as they should."""

import random
import struct
import threading

import websocket_echo as ws
from harness import Wire, expect, get, scenario, slots
from websocket_echo import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

MASK = b"\x37\xfa\x21\x3d"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"]


def f(opcode, payload=b"", **more):
    return ws.frame(opcode, payload, **{"mask": MASK, **more})


def code(number, reason=b""):
    return struct.pack("!H", number) + reason


BYE = f(CLOSE, code(1000))
ALL_UTF8 = "κόσμε \u00e9\u20ac\U0001f600\ufffd\u07ff\u0800\ud7ff\ue000\U0010ffff".encode()
NO_UTF8 = [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xfe", b"\xf8\x88\x80\x80\x80", b"a\x80", b"\xc3\x28"]
NO_UTF8 += [b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xbf\xbf", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65"]


def noise(size):
    return random.Random(size).randbytes(size)


def fragments(opcode, payload, size, between=b""):
    """`payload` in frames of `size` bytes, with frames `between` them."""
    pieces = [payload[i : i + size] for i in range(0, len(payload), size)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        f(opcode if i == 0 else CONTINUATION, piece, fin=i == last) + (between if i < last else b"")
        for i, piece in enumerate(pieces)
    )


def talks():
    """(what it shows, bytes of the client, the code or payload of the close that ends it)."""
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536, 70000):
        yield f"text of {size} bytes", f(TEXT, b"*" * size) + BYE, 1000
        yield f"binary of {size} bytes", f(BINARY, noise(size)) + BYE, 1000
    for size in (1 << 20, 4 << 20):
        yield f"a message of {size} bytes", f(BINARY, noise(size)) + BYE, 1000
    for size in (64, 4096, 65536):
        yield f"1 MiB in frames of {size} bytes", fragments(BINARY, noise(1 << 20 if size > 64 else 1 << 16), size) + BYE, 1000
    yield "a thousand small messages", b"".join(f(TEXT, b"n%d" % i) for i in range(1000)) + BYE, 1000
    for size in (0, 5, 125):
        yield f"ping of {size} bytes", f(PING, noise(size)) + BYE, 1000
        yield f"pong nobody asked for, of {size} bytes", f(PONG, noise(size)) + f(PING, b"x") + BYE, 1000
    yield "ping of 126 bytes", f(PING, b"x" * 126), 1002
    yield "twenty pings", b"".join(f(PING, b"%d" % i) for i in range(20)) + BYE, 1000
    for bits in range(1, 8):
        yield f"reserved bits {bits} in a text", f(TEXT, b"hi", reserved=bits), 1002
        yield f"reserved bits {bits} behind a good text", f(TEXT, b"a") + f(TEXT, b"b", reserved=bits) + f(PING), 1002
        yield f"reserved bits {bits} in a ping", f(PING, reserved=bits), 1002
    yield "reserved bits in a close", f(CLOSE, code(1000), reserved=4), 1002
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", f(opcode), 1002
        yield f"opcode {opcode} behind a good text", f(TEXT, b"a") + f(opcode, b"x") + f(PING), 1002
    yield "a text in two frames", f(TEXT, b"he", fin=False) + f(CONTINUATION, b"llo") + BYE, 1000
    yield "a text byte by byte, pings between", fragments(TEXT, b"hello", 1, f(PING, b"p")) + BYE, 1000
    yield "a text in empty frames", f(TEXT, fin=False) + f(CONTINUATION, fin=False) + f(CONTINUATION) + BYE, 1000
    yield "a ping in two frames", f(PING, b"a", fin=False) + f(CONTINUATION, b"b"), 1002
    yield "a pong in two frames", f(PONG, b"a", fin=False) + f(CONTINUATION, b"b"), 1002
    yield "a close in two frames", f(CLOSE, code(1000), fin=False), 1002
    yield "continuation of nothing", f(CONTINUATION, b"x"), 1002
    yield "continuation of nothing, not the last", f(CONTINUATION, b"x", fin=False) + f(TEXT, b"x"), 1002
    yield "continuation behind a whole text", f(TEXT, b"a") + f(CONTINUATION, b"x"), 1002
    yield "a text within a text", f(TEXT, b"a", fin=False) + f(TEXT, b"b"), 1002
    yield "a close within a text", f(TEXT, b"a", fin=False) + BYE, 1000
    yield "text of every width of UTF-8", f(TEXT, ALL_UTF8) + BYE, 1000
    yield "UTF-8 cut by frames", fragments(TEXT, ALL_UTF8, 1) + BYE, 1000
    yield "UTF-8 that ends too early", f(TEXT, b"\xe2\x82") + BYE, 1007
    for bad in NO_UTF8:
        yield f"no UTF-8: {bad.hex()}", f(TEXT, bad), 1007
        yield f"no UTF-8, byte by byte: {bad.hex()}", fragments(TEXT, bad, 1), 1007
        yield f"the same as binary: {bad.hex()}", f(BINARY, bad) + BYE, 1000
    yield "a close without a code", f(CLOSE), b""
    yield "a close with half a code", f(CLOSE, b"\x03"), 1002
    yield "a close with a reason", f(CLOSE, code(1000, b"bye")), code(1000, b"bye")
    yield "a close with the longest reason", f(CLOSE, code(1000, b"r" * 123)), code(1000, b"r" * 123)
    yield "a close with a reason too long", f(CLOSE, code(1000, b"r" * 124)), 1002
    yield "a close with a reason that is no UTF-8", f(CLOSE, code(1000, b"\xff")), 1007
    for number in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"close code {number}", f(CLOSE, code(number)), number
    for number in (0, 1, 999, 1004, 1005, 1006, 1012, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"close code {number}, which is none", f(CLOSE, code(number)), 1002
    yield "nothing is heard behind a close", BYE + f(TEXT, b"late") + f(PING) + BYE, 1000
    yield "a frame without a mask", ws.frame(TEXT, b"hi"), 1002
    yield "a mask of zeros", f(TEXT, b"hi", mask=bytes(4)) + BYE, 1000
    yield "a length longer than it need be", f(TEXT, b"hi", length_form=16), 1002
    yield "a length much longer than it need be", f(TEXT, b"hi", length_form=64), 1002
    yield "a length of 2^63", b"\x82\xff\x80" + bytes(7) + MASK, 1002
    yield "a length beyond what is taken", b"\x82\xff" + struct.pack("!Q", 1 << 40) + MASK, 1009
    yield "HTTP in the tunnel", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1002


def packed_talks():
    for size in (0, 1, 16, 1000, 65536, 131072):
        text = (b"the quick brown fox " * (size // 20 + 1))[:size]
        yield f"compressed text of {size} bytes", f(TEXT, ws.deflated(text), reserved=4) + BYE, 1000
        yield f"compressed noise of {size} bytes", f(BINARY, ws.deflated(noise(size)), reserved=4) + BYE, 1000
        yield f"uncompressed text of {size} bytes beside it", f(TEXT, text) + BYE, 1000
    whole = ws.deflated(b"fox " * 5000)
    half = len(whole) // 2
    two = f(TEXT, whole[:half], reserved=4, fin=False) + f(CONTINUATION, whole[half:])
    yield "a compressed text in two frames", two + BYE, 1000
    yield "the bit in a continuation", f(TEXT, whole[:half], reserved=4, fin=False) + f(CONTINUATION, whole[half:], reserved=4), 1002
    yield "the bit in a ping", f(PING, reserved=4), 1002
    yield "other bits", f(TEXT, b"a", reserved=6), 1002
    yield "what is no compressed data", f(TEXT, b"\xff\xff\xff\xff", reserved=4), 1002
    yield "compressed, and no UTF-8", f(TEXT, ws.deflated(b"\xff"), reserved=4), 1007


def talk(port, said, step, packed):
    """Everything that comes back: the fields of the 101 that matter, the frames, how it ended."""
    with Wire(port, timeout=10.0) as wire:
        fields = [*UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate"] if packed else UPGRADE
        wire.send(get("/ws/echo", *fields))
        head = wire.head()
        expect("switched", head.status, 101)

        def say():
            try:
                for at in range(0, len(said), step):
                    wire.send(said[at : at + step])
            except OSError:
                pass  # the other side has heard enough

        speaker = threading.Thread(target=say, daemon=True)
        speaker.start()
        ended = "fin"
        try:
            frames = wire.rest()
        except ConnectionResetError:
            frames, ended = wire.buffer, "rst"
        speaker.join(5)
        agreed = [head.fields.get(name) for name in ("sec-websocket-accept", "sec-websocket-extensions", "upgrade")]
        return agreed, frames, ended


@scenario(limit=90, weight=8)
def frames_through_the_tunnel(rig):
    """Every talk directly and through perigee, in pieces of several sizes: the same bytes come back."""
    worker = rig.worker(ws.script, name="w")
    perigee = rig.perigee([worker], slots(50))

    def one(said, close, packed):
        direct = talk(worker.port, said, 1 << 16, packed)
        _, frames, ended = direct
        expect("ended by the server", ended, "fin")
        last = ws.frame(CLOSE, close if isinstance(close, bytes) else code(close))
        expect("the last frame", frames[-len(last) :], last)
        for step in (1 << 20, 1 if len(said) < 300 else 997 if len(said) < 100_000 else 50_021):
            expect(f"in pieces of {step} bytes", talk(perigee.port, said, step, packed), direct)

    for title, said, close in talks():
        rig.row(title, one, said, close, False)
    for title, said, close in packed_talks():
        rig.row(title, one, said, close, True)
    # A client that vanishes in the middle of a frame leaves nothing behind.
    with perigee.wire() as wire:
        wire.send(get("/ws/echo", *UPGRADE))
        expect("switched", wire.head().status, 101)
        wire.send(f(TEXT, b"half of it")[:7])
    expect("then others", perigee.ask(get("/ws/echo", *UPGRADE)).status, 101)
