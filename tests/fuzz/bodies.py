"""Bodies in JSON that are wrong in one way or several, and what may follow the JSON."""

import base64
import copy
import json
import random
import struct

from tests.fuzz.damage import damaged

# Written into the JSON as they stand.
LITERALS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-999", "1e400000", "-0", "00", "01", "0x10", "1.", ".5"),
    *("9" * 20, "9" * 5000, "-" + "9" * 400, str(2**63), str(2**64), "1E+2", "+1", "True", "None", "undefined", "nul"),
    *('"\\ud800"', '"\\udc00\\ud800"', '"\\u00"', '"\\x41"', '"\\', '"\n"', '"\0"', '"\\u0000"', "'a'", '"a', "[", "{"),
    *(
        "[" * 50_000,
        '{"a":' * 20_000,
        "[" * 900 + "]" * 900,
        "[],",
        "{,}",
        "[1,]",
        "/* */ 1",
        "[" + "0," * 90_000 + "0]",
        '"' + "x" * 40_000 + '"',
    ),
)
VALUES = (
    *(None, True, False, 0, 1, -1, 1.5, 2**31, 2**53 + 1, "", " ", "image", "é", "\u202e", "\U0001f9eb", "\x7f"),
    *(
        [],
        {},
        [[]],
        [None],
        [{}],
        {"": {}},
        {"b64": None},
        {"b64": ["eHg="]},
        ["eHg="] * 40,
        "eHg=",
        "eHg",
        "=",
        "=====",
    ),
    *("data:image/png;base64,eHg=", "single_stack", "triple_stack", "MULTI_STACK", ["single_stack", "multi_stack"]),
)
NAMES = ("image", "modality", "prediction", "count", "boxes", "", "a" * 3000, "\u0000", "class", "constructor")


def b64(data):
    return base64.b64encode(data).decode()


def v1_document(rng, model, images):
    """A valid request in one of its forms."""
    form = rng.choice((lambda text: {"image": {"b64": text}}, lambda text: {"b64": text}, lambda text: {"image": text}))
    extra = {"modality": rng.choice(("single_stack", "multi_stack"))} if model == "culture" else {}
    return {"instances": [form(b64(image)) | extra for image in images]}


def v2_document(rng, model, images):
    """A valid request in JSON alone."""
    count = len(images)
    request = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [count], "data": [b64(image) for image in images]}]
    }
    if rng.random() < 0.5:
        request |= {"id": "7", "outputs": [{"name": "prediction", "parameters": {"binary_data": rng.random() < 0.5}}]}
    if model == "culture" and rng.random() < 0.5:
        request["parameters"] = {"modality": "single_stack"}
    elif model == "culture":
        modality = {"name": "modality", "datatype": "BYTES", "shape": [count], "data": ["multi_stack"] * count}
        request["inputs"].append(modality)
    return request


def v2_binary(rng, model, images):
    """A valid request in JSON, and the raw bytes that follow it."""
    request = v2_document(rng, model, images)
    raw = b"".join(struct.pack("<I", len(image)) + image for image in images)
    tensor = request["inputs"][0]
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": len(raw)}
    return request, raw


def odd_json(rng: random.Random, document: dict) -> tuple[str, bytes]:
    """Give the name of what is odd about a body, and the body."""
    what = rng.choice((wrong_value, wrong_value, literal, key, twice, form, length, bytes_of))
    return what.__name__.replace("_", " "), what(rng, copy.deepcopy(document))


def wrong_value(rng, document):
    for _ in range(rng.choice((1, 1, 1, 3))):
        parent, place = rng.choice(list(_places(document)))
        parent[place] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(document).encode()


def literal(rng, document):
    """JSON, or what is nearly that, which no encoder writes."""
    parent, place = rng.choice(list(_places(document)))
    parent[place] = "@here@"
    return json.dumps(document).replace('"@here@"', rng.choice(LITERALS)).encode("utf-8", "surrogatepass")


def key(rng, document):
    """Keys that are gone, renamed or new."""
    parent = rng.choice([parent for parent, _ in _places(document) if isinstance(parent, dict)])
    name = rng.choice(list(parent))
    value = parent.pop(name)
    if rng.random() < 0.6:
        parent[rng.choice((name.upper(), name + " ", *NAMES))] = value
    return json.dumps(document).encode()


def twice(rng, document):
    """A key that an object has twice."""
    text = json.dumps(document)
    parent = rng.choice([parent for parent, _ in _places(document) if isinstance(parent, dict)])
    inside = json.dumps(parent)[1:-1]
    return text.replace(
        inside, f"{inside}, {json.dumps(rng.choice(list(parent)))}: {rng.choice(LITERALS[:20])}", 1
    ).encode()


def form(rng, document):
    """Another encoding, or something before or behind."""
    text = json.dumps(document)
    return rng.choice(
        (
            *(text.encode("utf-16"), text.encode("utf-32-le"), b"\xef\xbb\xbf" + text.encode(), text.encode() + b"\0"),
            *(text.encode() + b"{}", text.encode() + b" \n\t", b"[" + text.encode() + b"]", json.dumps(text).encode()),
            *(
                b"\n" * 10_000 + text.encode(),
                b"instances=1",
                b"<xml/>",
                b"--x\r\n\r\n--x--",
                b"null",
                b"0",
                b'""',
                b" ",
            ),
        )
    )


def length(rng, document):
    """Lists that are too long, too short, or nested."""
    parents = [parent for parent, _ in _places(document) if isinstance(parent, list)]
    parent = rng.choice(parents)
    parent[:] = rng.choice(([], parent * 2, parent * 40, [parent[:]], [*parent, None]))
    return json.dumps(document).encode()


def bytes_of(rng, document):
    return damaged(rng, json.dumps(document).encode())[1]


def _places(value):
    """Give every place in a document as a container and a key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, item in list(items):
        yield value, place
        yield from _places(item)
