"""Why the endpoint turns a request down; each refusal is an HTTP status, a gRPC code and one sentence.

Refusal               400  INVALID_ARGUMENT     what was sent cannot be used; the sentence says how to mend it
├── Unauthorised      401  UNAUTHENTICATED      no token, or a wrong one, where the endpoint asks for one
├── UnknownName       404  NOT_FOUND            no such model or path
├── SwitchedOff       405  UNIMPLEMENTED        a part of the protocol that this endpoint keeps closed
├── TooSlow           408  DEADLINE_EXCEEDED    the body did not arrive in time
├── TooLarge          413  INVALID_ARGUMENT     more bytes, pixels or images than are taken
├── NotReady          503  UNAVAILABLE          no version of the model can answer yet
└── Overloaded        503  UNAVAILABLE          as many requests wait as may; try again
"""


class Refusal(Exception):
    """A request that is turned down on purpose.

    Args:
        message: One sentence that names what is wrong, then what to do.
        reason: A short machine-readable word.
    """

    status = 400
    grpc_code = "INVALID_ARGUMENT"
    retry_after: int | None = None

    def __init__(self, message: str, reason: str = "bad_request") -> None:
        super().__init__(message)
        self.reason = reason


class Unauthorised(Refusal):
    """The request does not show that it may ask."""

    status = 401
    grpc_code = "UNAUTHENTICATED"


class UnknownName(Refusal):
    """No model or path has this name."""

    status = 404
    grpc_code = "NOT_FOUND"


class SwitchedOff(Refusal):
    """A part of the protocol that this endpoint keeps closed."""

    status = 405
    grpc_code = "UNIMPLEMENTED"


class TooSlow(Refusal):
    """The request's body did not arrive in time."""

    status = 408
    grpc_code = "DEADLINE_EXCEEDED"


class TooLarge(Refusal):
    """More bytes, pixels or images than the endpoint takes."""

    status = 413


class NotReady(Refusal):
    """No version of the model can answer yet."""

    status = 503
    grpc_code = "UNAVAILABLE"
    retry_after = 5


class Stopping(Refusal):
    """The endpoint stopped before it had answered."""

    status = 503
    grpc_code = "UNAVAILABLE"
    retry_after = 1


class Overloaded(Refusal):
    """As many requests are at work and waiting as may be."""

    status = 503
    grpc_code = "UNAVAILABLE"
    retry_after = 1
