from pathlib import Path

import pytest

from components.endpoint.access import Access, read_token
from components.endpoint.client import Client
from components.errors import InputError
from tests.certificates import Authority


def test_what_is_not_given_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "CA", "CERTIFICATE", "KEY"):
        monkeypatch.setenv(f"MSCFLOW_{name}", f"their-{name}")
    theirs = Access.of(None, None, None, None)
    assert theirs == Access("their-TOKEN", Path("their-CA"), Path("their-CERTIFICATE"), Path("their-KEY"))
    mine = Access.of("mine", Path("ca"), Path("certificate"), None)
    assert mine == Access("mine", Path("ca"), Path("certificate"), None)


def test_nothing_is_sent_where_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSCFLOW_TOKEN", "")
    assert Access.of(None, None, None, None).headers() == {}


@pytest.mark.parametrize("token", ["two words", "line\n", "ключ"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_told(token: str) -> None:
    with pytest.raises(InputError, match="give it as it was issued") as caught:
        Access(token).headers()
    assert token not in str(caught.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_are_no_certificates_are_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "x.pem"
    if content:
        path.write_text(content)
    for given in ({"ca": path}, {"certificate": path}, {"ca": Authority(tmp_path).certificate, "certificate": path}):
        with pytest.raises(InputError, match=r"x\.pem' cannot be used .*; it must be PEM"):
            Client("https://127.0.0.1:1", **given)


def test_a_file_gives_its_first_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("# the new one\n\n  abc  \nold\n")
    assert read_token(path) == "abc"


@pytest.mark.parametrize("content", [None, b"# nothing\n", b"\xff\xfe"])
def test_a_file_without_a_token_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"token' .*; give a file with one token a line"):
        read_token(path)
