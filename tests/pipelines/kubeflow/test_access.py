"""Who asks is shown by a token or a cookie, and the server's certificate is checked."""

import pytest

from components.errors import InputError
from pipelines.kubeflow import access
from pipelines.kubeflow.connection import Connection
from tests.certificates import Authority

from .server import Kubeflow

PATH = "/healthz"


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    for name in (access.TOKEN_VARIABLE, access.COOKIE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(access, "POD_TOKEN", tmp_path / "no pod")


@pytest.fixture
def ask(kubeflow, settings_for):
    def get(**settings):
        with Connection(settings_for(kubeflow, **settings).kubeflow) as connection:
            return connection.get(PATH)

    return get


def test_a_token_is_taken_from_a_file_the_environment_or_the_pod(kubeflow, ask, tmp_path, monkeypatch):
    kubeflow.token = "of-the-file"
    (tmp_path / "token").write_text("of-the-file\n")
    assert ask(token_file=tmp_path / "token")
    kubeflow.token = "of-the-pod"
    (tmp_path / "pod").write_text("of-the-pod")
    monkeypatch.setattr(access, "POD_TOKEN", tmp_path / "pod")
    assert ask()
    kubeflow.token = "of-the-environment"
    monkeypatch.setenv(access.TOKEN_VARIABLE, "of-the-environment")
    assert ask()


def test_a_token_that_changes_meanwhile_is_read_anew(kubeflow, settings_for, tmp_path):
    file = tmp_path / "token"
    with Connection(settings_for(kubeflow, token_file=file).kubeflow) as connection:
        for token in ("first", "second"):
            kubeflow.token = token
            file.write_text(token)
            assert connection.get(PATH)


def test_without_a_token_the_way_to_give_one_is_told(kubeflow, ask):
    kubeflow.token = "secret-of-the-server"
    with pytest.raises(InputError, match=r"does not know who asks .*no user identity.*--token-file") as error:
        ask()
    assert kubeflow.token not in str(error.value)


def test_a_cookie_opens_what_else_leads_on_to_a_login(kubeflow, ask, monkeypatch):
    kubeflow.cookie = "oauth2_proxy_kubeflow=abc.def|17"
    with pytest.raises(InputError, match=rf"log in .*{access.COOKIE_VARIABLE}"):
        ask()
    monkeypatch.setenv(access.COOKIE_VARIABLE, kubeflow.cookie)
    assert ask()


@pytest.mark.parametrize("cookie", ["abc", "name=valué", "a=b\nHost: other"])
def test_what_is_no_cookie_is_never_sent(kubeflow, ask, monkeypatch, cookie):
    monkeypatch.setenv(access.COOKIE_VARIABLE, cookie)
    with pytest.raises(InputError, match="is no cookie"):
        ask()
    assert kubeflow.asked == []


@pytest.mark.parametrize(("status", "said"), [(403, "does not allow this"), (404, "a fault of 404"), (400, "400")])
def test_a_refusal_is_told_at_once(kubeflow, ask, status, said):
    kubeflow.faults["healthz_service_get_healthz"] = [status]
    with pytest.raises(InputError, match=said):
        ask()
    assert len(kubeflow.asked) == 1


def test_a_certificate_is_held_against_its_authority(settings_for, tmp_path):
    authority = Authority(tmp_path)
    with Kubeflow(tls=authority.issue("server")) as server:
        with Connection(settings_for(server, ca=authority.certificate).kubeflow) as connection:
            assert connection.get(PATH)
        with (
            Connection(settings_for(server).kubeflow) as connection,
            pytest.raises(InputError, match=r"certificate is not trusted .*--ca"),
        ):
            connection.get(PATH)


def test_an_address_where_nobody_answers_is_named(settings_for, kubeflow):
    settings = settings_for(kubeflow, url="http://127.0.0.1:9/pipeline", patience=0.1)
    with (
        Connection(settings.kubeflow) as connection,
        pytest.raises(InputError, match=r"no Kubeflow Pipelines answers at http://127\.0\.0\.1:9/pipeline"),
    ):
        connection.get(PATH)
