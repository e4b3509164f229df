"""``python -m serving``: the endpoint's process."""

import argparse
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from components.endpoint.files import STATUS_FILE, write_desired
from components.endpoint.releases import fetch
from components.errors import InputError, MscflowError, SettingsError
from components.settings import ServingSettings

EXAMPLES = """
examples:
  python -m serving --folder .mscflow/endpoint
  python -m serving --folder .mscflow/endpoint --port 9000 --grpc-port 9001 --threads 4
  python -m serving --release s3://cultures/store/releases/DIGEST --host 0.0.0.0
  curl http://127.0.0.1:8080/v2/health/ready

FOLDER/desired.json says which models to serve; it is watched, and a new version is loaded beside the
running one before it takes over. FOLDER/status.json says what serves, and why what is wanted does not.
With --release the models are those of a release in an object store: they are fetched first, and each digest is checked.
SIGTERM and Ctrl-C finish the requests in flight. Requests and answers: serving/README.md.
"""
# Settings that are not the server's but those of who starts it.
NOT_OPTIONS = {"start_timeout"}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits with 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serve the models that a folder asks for: REST (v1 and v2) and gRPC.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, help="folder of desired.json and status.json")
    parser.add_argument("--release", help="URI of a release, to serve what it holds; the folder may then be left out")
    parser.add_argument("--log", type=Path, help="file for the log, which is rotated; default: standard error")
    for name, field in ServingSettings.model_fields.items():
        if name not in NOT_OPTIONS:
            unset = field.default is None
            text = f"{field.description or name.replace('_', ' ')} (default: {'none' if unset else field.default})"
            kind = Path if unset else type(field.default)
            parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=field.default, help=text)
    options = parser.parse_args(arguments)
    if options.folder is None and options.release is None:
        parser.error("give --folder or --release")
    return options


def serve(options: argparse.Namespace) -> None:
    """Run the server until it is told to stop.

    Raises:
        InputError: if an option, the folder, the release or a port cannot be used.
        IntegrityError: if anything of the release has another digest than it should.
    """
    with tempfile.TemporaryDirectory(prefix="mscflow-endpoint-") as own:
        _serve(options, options.folder or Path(own))


def _serve(options: argparse.Namespace, folder: Path) -> None:
    given = {name: value for name, value in vars(options).items() if name in ServingSettings.model_fields}
    try:
        settings = ServingSettings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error
    if not folder.is_dir():
        raise InputError(f"--folder '{folder}' is not a folder; 'mscflow serve' makes one")

    # The slow imports come after the checks that fail often.
    from serving.allocator import keep_memory
    from serving.credentials import Credentials
    from serving.lean import import_kserve
    from serving.listener import bind, raise_file_limit
    from serving.logs import configure

    credentials = Credentials.read(settings)
    raise_file_limit()
    listener = bind(settings.host, settings.port, "--port")
    # gRPC takes no socket that is bound already, so this one only tells early that the port is taken.
    bind(settings.host, settings.grpc_port, "--grpc-port").close()
    (folder / STATUS_FILE).unlink(missing_ok=True)
    configure(options.log)
    if options.release is not None:
        write_desired(folder, fetch(options.release, folder / "models"))
    keep_memory()
    import_kserve()
    from serving.server import EndpointServer

    EndpointServer(folder, settings, credentials, listener).start()


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    return f"--{str(first['loc'][0]).replace('_', '-')} {first['input']}: {message}"


def main(arguments: list[str] | None = None) -> int:
    """Serve; give the exit code."""
    try:
        serve(parse(arguments))
    except MscflowError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
