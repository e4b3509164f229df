from collections.abc import Callable

import pytest

from serving.pictures import Limits, decode_within, placed
from serving.refusals import Refusal, TooLarge

LIMITS = Limits(image_bytes=100_000, pixels=3000, images=3)


def test_an_image_within_the_limits_is_decoded(png: Callable[..., bytes]) -> None:
    assert decode_within(png(size=(50, 60)), LIMITS).size == (60, 50)


@pytest.mark.parametrize(
    ("image", "reason", "kind"),
    [
        (b"", "empty", Refusal),
        (b"hello", "unreadable", Refusal),
        (b"x" * 100_001, "too_large", TooLarge),
    ],
)
def test_an_image_that_cannot_be_used_is_refused(image: bytes, reason: str, kind: type[Refusal]) -> None:
    with pytest.raises(kind) as caught:
        decode_within(image, LIMITS)
    assert caught.value.reason == reason


def test_pixels_are_counted_before_they_are_decoded(png: Callable[..., bytes]) -> None:
    with pytest.raises(TooLarge, match="more than the 3000 that may be decoded"):
        decode_within(png(size=(50, 61)), LIMITS)


def test_a_refusal_names_the_image_where_there_are_several() -> None:
    with pytest.raises(TooLarge, match=r"^image 2 of 3: it is too large$") as caught, placed(1, 3):
        raise TooLarge("it is too large", reason="too_large")
    assert caught.value.reason == "too_large"
    with pytest.raises(Refusal, match=r"^it is too large$"), placed(0, 1):
        raise Refusal("it is too large")
