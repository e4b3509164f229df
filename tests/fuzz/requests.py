"""HTTP requests, byte by byte; those that are odd are odd around their bodies."""

import functools
import gzip
import random
import zlib

from tests.fuzz.damage import damaged

METHODS = (
    *("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "get", "post", "PROPFIND", "X" * 300, "PRI"),
    *("GE T", "G\0T", "GÉT", "", " ", "POST\t", "123", "{}"),
)
TYPES = (
    *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", "", "/", "é"),
    *("application/json; charset=utf-16", "application/cloudevents+json", "application/grpc", "x" * 3000, "a/b; c=;;"),
)


def http(method: bytes, path: bytes, body: bytes, headers=(), version: bytes = b"HTTP/1.1") -> bytes:
    """Give the bytes of a request that ends its connection; headers are pairs of name and value."""
    lines = [b"%s %s %s" % (method, path, version), b"Host: endpoint", b"Connection: close"]
    lines += [name.encode("latin-1") + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def posting(path: str, body: bytes, headers=()) -> bytes:
    """Give the bytes of a POST with the right length."""
    return http(b"POST", path.encode(), body, (("Content-Length", str(len(body)).encode()), *headers))


def odd_request(rng: random.Random, model: str, body: bytes) -> tuple[str, bytes, None, bool]:
    """Give the name of what is odd, the request, no path of gRPC, and whether the client stops in the middle."""
    chosen = rng.choice(ODD)
    path = f"/v1/models/{model}:predict"
    data = chosen(rng, path, body)
    what = chosen.__name__.replace("_", " ")
    return what, data, None, chosen in CUT


def method(rng, path, body):
    name = rng.choice(METHODS).encode()
    return http(name, path.encode(), body, (("Content-Length", b"%d" % len(body)),))


def other_path(rng, path, body):
    name = path.removeprefix("/v1/models/").removesuffix(":predict")
    paths = (
        *("/", "//", "", "*", "/v1", "/v3/models", f"/{path}", f"{path}/", f"{path}:predict", f"/v1/models/{name}"),
        *("/v1/models/:predict", "/v1/models/%00:predict", "/v1/models/%ff%fe:predict", "/v1/models/..%2f..:predict"),
        *("/v1/models/../../etc/passwd", "/v2/models//infer", "/v2/models/%2e%2e/infer", "/v2/models/a/b/infer"),
        *(f"/v1/models/{'x' * 5000}:predict", "/v1/models/" + "%41" * 2000, "/v1/models/é:predict", "/%", "/%zz"),
        *(
            f"{path}?a=b&a",
            f"{path}?{'a=1&' * 3000}",
            f"{path}#part",
            "http://other.example/v1/models",
            "/v1/models\\x",
        ),
        *(f"/v2/repository/models/{name}/unload", f"/v2/repository/models/{name}/load", "/v2/repository/index"),
        *(f"/v2/models/{name}/versions/1/infer", f"/v1/models/{name}:explain", "/docs", "/redoc", "/openapi.yaml"),
        *("/v1/models/${jndi}:predict", "/v1/models/<b>:predict", "/v1/models/a%0d%0ax:predict", "/v1/models/ a"),
    )
    verb = rng.choice((b"GET", b"POST", b"POST"))
    return http(verb, rng.choice(paths).encode(), body, (("Content-Length", b"%d" % len(body)),))


def header(rng, path, body):
    odd = (
        *(
            ("X-Request-Id", value)
            for value in (b"", b"x" * 5000, b"\xff\xfe", b"a\tb", b"<b>", b'"', b"%0d%0a", b"\x00")
        ),
        *(("Content-Type", kind.encode()) for kind in TYPES),
        *(("Accept", b"text/html;q=" + b"9" * 500), ("Accept-Encoding", b"br;q=x"), ("Cookie", b"a=" + b"x" * 9000)),
        *(
            ("Authorization", value)
            for value in (b"", b"Bearer", b"Bearer \xff", b"Basic eHg=", b"Bearer " + b"x" * 9000)
        ),
        *(
            ("traceparent", value)
            for value in (b"", b"00-0-0-0", b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-ff", b"\xff")
        ),
        *(
            ("Expect", b"100-continue"),
            ("Expect", b"other"),
            ("Host", b"second"),
            ("Range", b"bytes=5-"),
            ("A", b"x" * 40_000),
        ),
        *(
            ("Upgrade", b"websocket"),
            ("Upgrade", b"h2c"),
            ("If-Match", b"*"),
            ("X-Forwarded-For", b"1.2.3.4, x"),
            ("", b""),
        ),
        *(
            (" A", b"b"),
            ("A B", b"c"),
            ("A\0", b"b"),
            ("\xe9", b"b"),
            ("A", b"b\r\n folded"),
            ("A", b"b\rc"),
            ("A", b"b\nc: d"),
        ),
    )
    many = [(f"h{number}", b"v") for number in range(rng.choice((0, 0, 0, 90, 2000)))]
    return http(b"POST", path.encode(), body, (("Content-Length", b"%d" % len(body)), rng.choice(odd), *many))


def lengths(rng, path, body):
    """Lengths that are no numbers, or contradict each other."""
    right = b"%d" % len(body)
    odd = (
        b"-1",
        b"+5",
        b"0x10",
        b"1e3",
        b"five",
        b"",
        b"5 5",
        b"9" * 30,
        b"\xd9\xa3",
        right + b", " + right,
        right + b".0",
    )
    headers = rng.choice(
        (
            (("Content-Length", rng.choice(odd)),),
            (("Content-Length", right), ("Content-Length", b"5")),
            (("Content-Length", right), ("Transfer-Encoding", b"chunked")),
            (
                (
                    "Transfer-Encoding",
                    rng.choice((b"gzip", b"chunked, gzip", b"identity", b"xchunked", b"chunked, chunked")),
                ),
            ),
            (),
        )
    )
    return http(b"POST", path.encode(), body, headers)


def too_short_a_length(rng, path, body):
    return http(b"POST", path.encode(), body, (("Content-Length", b"%d" % rng.randrange(len(body))),))


def too_long_a_length(rng, path, body):
    length = len(body) + rng.choice((1, 100, 100_000, 10**12))
    return http(b"POST", path.encode(), body, (("Content-Length", b"%d" % length),))


def chunks(rng, path, body):
    """A body in chunks whose sizes are wrong, or that never end."""
    size = b"%x" % len(body)
    odd = rng.choice(
        (
            *(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) + 5, body), b"-5\r\n" + body, b"zz\r\n" + body, b"\r\n" + body),
            *(b"f" * 17 + b"\r\n" + body, size + b";" + b"x" * 9000 + b"\r\n" + body + b"\r\n0\r\n\r\n"),
            *(size + b"\r\n" + body + b"\r\n0\r\nTrailer: x\r\n\r\n", size + b"\r\n" + body + b"\r\n"),
            b"".join(b"1\r\n%c\r\n" % byte for byte in body[:2000]) + b"0\r\n\r\n",
        )
    )
    return http(b"POST", path.encode(), odd, (("Transfer-Encoding", b"chunked"),))


def compressed(rng, path, body):
    """A body that is compressed, which the endpoint does not undo; some of them bombs."""
    name, pack = rng.choice(
        ((b"gzip", functools.partial(gzip.compress, mtime=0)), (b"deflate", zlib.compress), (b"br", zlib.compress))
    )
    data = pack(body if rng.random() < 0.5 else bytes(20_000_000))
    return http(b"POST", path.encode(), data, (("Content-Length", b"%d" % len(data)), ("Content-Encoding", name)))


def version(rng, path, body):
    odd = (b"HTTP/0.9", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"HTTP", b"", b"http/1.1", b"HTTP/1.1 x", b"HTTP/1.1\0")
    return http(b"POST", path.encode(), body, (("Content-Length", b"%d" % len(body)),), rng.choice(odd))


def no_http(rng, path, body):
    return rng.choice(
        (
            *(
                b"\r\n\r\n\r\n",
                b"\0" * 100,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
                rng.randbytes(300) + b"\r\n\r\n",
            ),
            *(
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200),
                b"SSH-2.0-x\r\n",
                b"{}\r\n\r\n",
                b"GET /",
            ),
        )
    )


def any_bytes(rng, path, body):
    """A whole request with damage anywhere in it, most of all in its head."""
    head, _, _ = posting(path, body).partition(b"\r\n\r\n")
    return damaged(rng, head + b"\r\n\r\n")[1] + body if rng.random() < 0.8 else damaged(rng, posting(path, body))[1]


CUT = (too_long_a_length, chunks, no_http, any_bytes, lengths, method, version, header)
ODD = (
    other_path,
    header,
    lengths,
    too_short_a_length,
    too_long_a_length,
    chunks,
    compressed,
    version,
    no_http,
    any_bytes,
    method,
)
