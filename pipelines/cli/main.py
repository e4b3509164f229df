"""The `mscflow` command: its groups, its exit codes, and how errors reach a person.

Exit codes: 0 success, 2 bad input, 3 a gate refused, 1 anything else; 130 after Ctrl-C.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from components.errors import MscflowError
from pipelines.cli.data import data
from pipelines.cli.endpoint import serve
from pipelines.cli.model_group import models
from pipelines.cli.models import report
from pipelines.cli.pipelines import pipelines
from pipelines.cli.predict import predict
from pipelines.cli.retrain import batches, retrain, watch
from pipelines.cli.run import demo, run
from pipelines.cli.settings import settings
from pipelines.cli.study import study

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mscflow")
@click.option("--home", type=click.Path(path_type=Path), help="Where state lives (MSCFLOW_HOME; default .mscflow).")
def mscflow(home: Path | None) -> None:
    """Train, release, serve and retrain the models that watch stem-cell cultures.

    \b
    First steps:
      mscflow demo                                 the whole path, on simulated cultures
      mscflow run --data FOLDER                    the same on your images
      mscflow predict IMAGE                        ask the endpoint that a run left serving
      mscflow watch FOLDER                         retrain on each batch of images that arrives there
    """
    if home is not None:
        # The environment, not a variable, so that the pipeline's steps, which are processes, see it too.
        os.environ["MSCFLOW_HOME"] = str(home.expanduser().absolute())


for command in (demo, run, watch, retrain, batches, study, data, models, report, serve, predict, pipelines, settings):
    mscflow.add_command(command)


def main() -> NoReturn:
    """Run the command line and leave with its exit code; no traceback reaches the user."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        code = mscflow.main(arguments, prog_name="mscflow", standalone_mode=False)
    except MscflowError as error:
        return _fail(str(error), error.exit_code, as_json)
    except click.ClickException as error:
        if as_json:
            return _fail(error.format_message(), 2, as_json)
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort) as stop:
        said = str(stop) or str(stop.__cause__ or "")  # click puts an Abort of its own in the place of the interrupt
        usual = "interrupted; what was finished is kept, and the same command continues from it"
        return _fail(said or usual, INTERRUPTED, as_json)
    except BrokenPipeError:
        # The reader (head, less) has gone; without this, Python complains again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _crash(error, as_json)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": message, "exit_code": code}))
    click.echo(f"mscflow: {message}", err=True)
    return code


def _crash(error: Exception, as_json: bool) -> int:
    """A bug in mscflow: say so in a line, keep the traceback in a file for who will mend it."""
    text = "".join(traceback.format_exception(error))
    path = Path(os.environ.get("MSCFLOW_HOME", ".mscflow")) / "crash.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        where = f"details in {path}"
    except OSError:
        where = text
    return _fail(f"internal error ({type(error).__name__}: {error}); this is a bug of mscflow; {where}", 1, as_json)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
