"""Docker for tests: a hardened run of an image, containers and networks with names of their own, all removed again."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = Path(os.environ.get("MSCFLOW_K8S_TOOLS", ROOT.parent / "shared" / "k8s"))
# As the cluster runs every image of ours: a plain user who may write to /tmp alone.
HARDENED = ("--user=10001:0", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp:exec")


def tool(name: str) -> Path:
    """Give one of the programs that start the servers, or skip the test.

    Args:
        name: ``engine``, ``crd-server`` or ``cluster``.
    """
    path = TOOLS / name
    if not path.is_file():
        pytest.skip(f"no {name}: {path} is not there; name the tools' folder in MSCFLOW_K8S_TOOLS")
    return path


@contextmanager
def started(name: str) -> Iterator[dict[str, str]]:
    """Start one of the servers, and stop it at the end if it did not run before.

    Args:
        name: ``engine``, ``crd-server`` or ``cluster``.

    Yields:
        The environment in which its clients find it.
    """
    program = tool(name)
    ran = subprocess.run([program, "status"], capture_output=True, check=False, timeout=60).returncode == 0
    try:
        call([program, "start"], timeout=400)
        yield _environment(program)
    finally:
        if not ran:
            call([program, "stop"], timeout=120)


class Container:
    """A container that runs in the background."""

    def __init__(self, docker: "Docker", name: str) -> None:
        self.docker, self.name = docker, name

    def exec(self, *command: str, check: bool = True, timeout: float = 120) -> str:
        """Run a command inside; give its output."""
        return self.docker("exec", self.name, *command, check=check, timeout=timeout)

    def logs(self) -> str:
        """Give what it has written so far, errors included."""
        return self.docker("logs", self.name, merge=True)

    def address(self, network: str = "bridge") -> str:
        """Give its address in a network; the host reaches it there, too."""
        return self._inspect(f'{{{{ (index .NetworkSettings.Networks "{network}").IPAddress }}}}')

    def state(self) -> str:
        """Give Docker's word for its state, such as ``running`` or ``exited``."""
        return self._inspect("{{ .State.Status }}")

    def health(self) -> str:
        """Give what its health check says: ``starting``, ``healthy`` or ``unhealthy``."""
        return self._inspect("{{ .State.Health.Status }}")

    def wait(self, timeout: float = 240) -> int:
        """Wait until it ends; give its exit code."""
        return int(self.docker("wait", self.name, timeout=timeout))

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        self.docker("kill", "--signal", signal, self.name)

    def remove(self) -> None:
        """Kill and remove it; nothing happens if it is gone."""
        self.docker("rm", "--force", "--volumes", self.name, check=False)

    def await_log(self, text: str, timeout: float = 120) -> None:
        """Wait until it has written a text.

        Raises:
            RuntimeError: if it ends, or too much time passes, without it.
        """
        deadline = time.monotonic() + timeout
        while text not in self.logs():
            if self.state() == "exited" or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not write {text!r}: {self.logs()[-3000:]}")
            time.sleep(0.2)

    def _inspect(self, template: str) -> str:
        return self.docker("inspect", "--format", template, self.name)


class Docker:
    """The engine's command line; removes at the end what was started and made through it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(
        self, *arguments: str, check: bool = True, timeout: float = 120, given: str | None = None, merge: bool = False
    ) -> str:
        """Run ``docker ARGUMENTS``; give its output, stripped.

        Args:
            arguments: Of the command line.
            check: Whether a failure raises.
            timeout: Seconds.
            given: Standard input.
            merge: Whether standard error belongs to the output.

        Raises:
            RuntimeError: if the command fails, with what it wrote.
        """
        return call(["docker", *arguments], self.environment, check=check, timeout=timeout, given=given, merge=merge)

    def run(
        self, image: str, *command: str, options: Sequence[str] = (), check: bool = True, timeout: float = 240
    ) -> str:
        """Run a command in a hardened container to its end; give its output.

        Args:
            image: Tag.
            command: Command line; none is the image's own.
            options: Further options of ``docker run``.
            check: Whether a failure raises.
            timeout: Seconds.
        """
        name = f"mscflow-test-{uuid4().hex[:12]}"
        arguments = ["run", "--rm", f"--name={name}", *HARDENED, *options, image, *command]
        try:
            return self(*arguments, check=check, timeout=timeout, merge=True)
        finally:
            self("rm", "--force", "--volumes", name, check=False)

    def start(
        self,
        image: str,
        *command: str,
        network: str = "bridge",
        alias: str | None = None,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Container:
        """Start a hardened container in the background; it is removed at the end.

        Args:
            image: Tag.
            command: Command line; none is the image's own.
            network: That it joins.
            alias: A further name of it in that network (not in ``bridge``, which knows no names).
            environment: Variables.
            options: Further options of ``docker run``; the last of two that exclude each other wins.
        """
        container = Container(self, f"mscflow-test-{uuid4().hex[:12]}")
        variables = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        names = [f"--network={network}", *([f"--network-alias={alias}"] if alias else [])]
        self._stack.callback(container.remove)
        self("run", "--detach", f"--name={container.name}", *HARDENED, *names, *variables, *options, image, *command)
        return container

    def network(self) -> str:
        """Make a network in which containers find each other by name; it is removed at the end."""
        name = f"mscflow-test-{uuid4().hex[:12]}"
        self("network", "create", name)
        self._stack.callback(self, "network", "rm", name, check=False)
        return name


def _environment(program: Path) -> dict[str, str]:
    """Give the variables that ``PROGRAM env`` exports, resolved by a shell as they are meant to be."""
    script = 'eval "$("$0" env)"; env -0'
    text = subprocess.run(
        ["bash", "-c", script, program], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def call(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    *,
    check: bool = True,
    timeout: float,
    given: str | None = None,
    merge: bool = False,
) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        text=True,
        check=False,
        timeout=timeout,
    )
    if check and done.returncode:
        words = " ".join(map(str, command))
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stdout[-4000:]}{(done.stderr or '')[-4000:]}")
    return done.stdout.strip()
