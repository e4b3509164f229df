"""Where a training starts from: the champion's weights or anew, whichever does better on the validation part."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.settings import RetrainSettings, TrainingSettings
from components.shelf import bring_model
from components.trainer import Launching
from components.training.steps import run
from components.training.threads import wait_briefly

if TYPE_CHECKING:
    from components.training.job import Job

Start = Literal["champion", "scratch"]

# Of these the less is the better.
_COSTS = {"validation_loss": 1.0, "validation_average_precision": -1.0}


def train_from(
    champion: str,
    retrain: RetrainSettings,
    settings: TrainingSettings,
    output: Path,
    home: Path,
    launching: Launching = Launching(),  # noqa: B008  it is frozen
    **job: Any,
) -> dict[str, Any]:
    """Fit from each start that the settings ask for and keep the better fit.

    Both fits choose their epoch on the same validation images, which no model of the lineage has learnt from. A fit
    that was finished before this process was killed is not done again.

    Args:
        champion: Digest of the champion, which ``components.registry.start`` has put on the shelf of the store; empty
            if there is none.
        retrain: Which starts, and how much slower the champion's weights are trained on.
        settings: How to train.
        output: Folder that gets what ``steps.train`` writes, and the record of the other fit.
        home: Folder that keeps checkpoints, resized images and the champion.
        launching: Where the fits run.
        job: The other fields of ``components.training.job.Job``.

    Returns:
        What ``steps.train`` gives of the better fit, with ``start`` (champion or scratch), ``starts`` (the least cost
        on the validation part, by start) and ``note``, why the champion could not be gone on from.

    Raises:
        TrainingError: if the loss diverges or the exported model answers otherwise.
        InputError: if the settings, the split or the disk cannot be used.
        IntegrityError: if the champion's files are not what they were.
    """
    wait_briefly()
    from components.training.job import Job

    if champion and retrain.start != "scratch":
        bring_model(job["store_uri"], champion, home)
    starts, note = _starts(champion, retrain, settings, home)
    whole = Job(settings=settings, output=output.absolute(), home=home.absolute(), keep=True, **job)
    jobs = {start: _from(whole, start, champion, retrain.rate) for start in starts}
    results = {start: run(job, launching) for start, job in jobs.items()}
    better = min(results, key=lambda start: _cost(results[start]))
    _keep(output, jobs, better)
    for done in jobs.values():
        _forget(done, launching)
    costs = {start: round(_cost(result), 6) for start, result in results.items()}
    return {**results[better], "start": better, "starts": costs, "note": note}


def _from(job: "Job", start: Start, champion: str, rate: float) -> "Job":
    learning_rate, output = job.settings.learning_rate or job.learning_rate, job.output / start
    if start == "scratch":
        return job.model_copy(update={"learning_rate": learning_rate, "output": output})
    return job.model_copy(update={"learning_rate": rate * learning_rate, "output": output, "champion": champion})


def _starts(
    champion: str, retrain: RetrainSettings, settings: TrainingSettings, home: Path
) -> tuple[tuple[Start, ...], str]:
    """Give the starts, and why the champion is not among them where it was asked for."""
    from components.models.champion import why_not

    if retrain.start == "scratch":
        return ("scratch",), ""
    if (reason := why_not(home, champion, settings)) is not None:
        return ("scratch",), reason
    return ("champion", "scratch") if retrain.start == "both" else ("champion",), ""


def _cost(result: dict[str, Any]) -> float:
    """What the better fit has less of: the loss, or of a detector the cells that it does not find."""
    detects = "validation_average_precision" in result
    name = "validation_average_precision" if detects else "validation_loss"
    return _COSTS[name] * float(result[name])


def _keep(output: Path, jobs: "dict[Start, Job]", better: Start) -> None:
    """Put the better fit's files in place; of the other, its record stays."""
    from components.bundle import MODEL_FILE, WEIGHTS_FILE
    from components.training.worker import RECORD_FILE

    for start, job in jobs.items():
        if start != better:
            (job.output / RECORD_FILE).replace(output / f"{start}-{RECORD_FILE}")
            continue
        for name in (MODEL_FILE, WEIGHTS_FILE, RECORD_FILE):
            (job.output / name).replace(output / name)
    for job in jobs.values():
        shutil.rmtree(job.output)


def _forget(job: "Job", launching: Launching) -> None:
    if launching.launcher == "trainjob":
        from components.training.launch import forget
    else:
        from components.training.worker import forget
    forget(job)
