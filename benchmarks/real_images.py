"""How often is the default model right on real images, beside frozen ImageNet features and a plain filter?

python benchmarks/real_images.py FOLDER         FOLDER (default: MSCFLOW_REAL_DATA) holds labels.csv with the
                                                columns file, class, group and source, and the images
python benchmarks/real_images.py --backbone resnet50 --planes rgb --json RESULT.json

In the same five folds, stratified by class with whole groups held out, and with each source left out:

    features   EfficientNet-Lite0's frozen ImageNet features of RGB images, averaged over places,
               standardised, and a logistic regression; the image size and C are chosen by
               cross-validation over groups inside the training folds, on all of which it is then fitted
    contrast   the share of pixels with local contrast above a threshold, chosen on the training folds
    product    what `mscflow run` trains with its settings: the learning rate is searched, the epoch and temperature are
               chosen on the validation part, which is cut from the training folds

On 179 images and 2 free cores it takes about six minutes, `--rate 1e-3` (no search) three.
"""

import argparse
import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from components.culture import ConfluenceClass
from components.datasets.folds import Fold, make_folds
from components.datasets.manifest import ImageRecord
from components.evaluation.baseline import band_probabilities, coverage_of, fit_threshold
from components.evaluation.calibration import calibration_error, fit_temperature
from components.evaluation.metrics import measure, predicted_classes
from components.imaging import Preprocessing, arrange, decode, normalise, probabilities
from components.models.classifier import build_classifier
from components.models.weights import find_weights, input_of
from components.settings import SearchSettings, TrainingSettings, load_settings
from components.training.data import Part, TrainingData
from components.training.fit import Fit
from components.training.ranks import join_ranks
from components.tuning.steps import find_rate

FEATURE_SIZES = (224, 256, 300, 384)
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
INNER_FOLDS = 4

Floats = NDArray[np.float64]
Method = Callable[[Fold], Floats]


class Images(NamedTuple):
    records: list[ImageRecord]
    decoded: list[NDArray[np.uint8]]

    @property
    def truth(self) -> NDArray[np.int64]:
        return np.array([record.confluence_class for record in self.records], np.int64)

    @property
    def groups(self) -> NDArray[np.str_]:
        return np.array([record.split_group for record in self.records])

    def arranged(self, prep: Preprocessing) -> NDArray[np.uint8]:
        return np.stack([arrange(image, prep) for image in self.decoded])


def read(folder: Path) -> Images:
    records, decoded = [], []
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["class"]:
                data = (folder / row["file"]).read_bytes()
                label = ConfluenceClass(int(float(row["class"])))
                digest = hashlib.sha256(data).hexdigest()
                records.append(
                    ImageRecord(
                        path=row["file"],
                        sha256=digest,
                        size=len(data),
                        confluence_class=label,
                        group=row["group"],
                        source=row["source"],
                    )
                )
                decoded.append(decode(data))
    return Images(records, decoded)


def frozen_features(images: Images) -> Method:
    """Features of EfficientNet-Lite0 and a logistic regression; gives probabilities (N, 4) of the test images."""
    features = [_pooled(images, size) for size in FEATURE_SIZES]

    def answer(fold: Fold) -> Floats:
        train, test = np.array([*fold.train, *fold.validation]), np.array(fold.test)
        inner = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=0)
        parts = list(inner.split(train, images.truth[train], images.groups[train]))

        def right(each: NDArray[np.float32], strength: float) -> float:
            hits = [
                _regression(each[train[fitted]], images.truth[train[fitted]], strength).predict(each[train[held]])
                == images.truth[train[held]]
                for fitted, held in parts
            ]
            return float(np.concatenate(hits).mean())

        tried = [(number, strength) for number in range(len(features)) for strength in STRENGTHS]
        # Of equally good ones the first: the smallest images, the strongest regularisation.
        number, strength = max(tried, key=lambda each: right(features[each[0]], each[1]))
        model = _regression(features[number][train], images.truth[train], strength)
        result = np.zeros((len(test), 4))
        result[:, model.classes_ - 1] = model.predict_proba(features[number][test])
        return result

    return answer


def _regression(features: NDArray[np.float32], truth: NDArray[np.int64], strength: float) -> Any:
    # So small a problem takes a hundred times as long where two threads wait for each other.
    with threadpool_limits(1):
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(features, truth)


@torch.no_grad()
def _pooled(images: Images, size: int) -> NDArray[np.float32]:
    settings = TrainingSettings(backbone="efficientnet_lite0", planes="rgb", image_size=size)
    weights = find_weights(settings.backbone, "auto")
    if not weights.pretrained:
        raise SystemExit(f"no pretrained weights of {settings.backbone} are at hand: {weights.note}")
    network = build_classifier(settings.backbone, 0.0, weights, seed=0).features.eval()
    prep = input_of(settings, weights)
    batches = np.array_split(images.arranged(prep), max(1, len(images.records) // 16))
    answers = [network(torch.from_numpy(normalise(batch, prep))).mean(dim=(2, 3)).numpy() for batch in batches]
    return np.concatenate(answers)


def local_contrast(images: Images) -> Method:
    """The classical estimate; its threshold is chosen on the training folds."""
    shares = np.stack([coverage_of(image) for image in images.decoded])

    def answer(fold: Fold) -> Floats:
        train = np.array([*fold.train, *fold.validation])
        return band_probabilities(shares[list(fold.test), fit_threshold(shares[train], images.truth[train])])

    return answer


def product(images: Images, settings: TrainingSettings, search: SearchSettings, home: Path) -> Method:
    """What `mscflow run` would train on the fold, its probabilities calibrated on the validation part."""
    weights = find_weights(settings.backbone, settings.weights)
    prep = input_of(settings, weights)
    arrays = images.arranged(prep)

    def part(chosen: Sequence[int]) -> Part:
        return Part.of(arrays[list(chosen)], images.truth[list(chosen)].tolist())

    def answer(fold: Fold) -> Floats:
        data = TrainingData(part(fold.train), part(fold.validation))
        name = hashlib.sha256(repr(fold).encode()).hexdigest()
        rate = settings.learning_rate or find_rate(name, lambda: data, search, settings, weights, home)
        model = build_classifier(settings.backbone, settings.dropout, weights, settings.seed)
        with join_ranks() as ranks:
            fit = Fit(model, data, settings, rate, prep, ranks, pretrained=weights.pretrained)
            model.load_state_dict(fit.run().state)
            validation, test = (fit.logits(each).numpy() for each in (data.validation, part(fold.test)))
        return probabilities(test, fit_temperature(validation, images.truth[list(fold.validation)]))

    return answer


def figures(images: Images, folds: Sequence[Fold], method: Method) -> dict[str, Any]:
    """Measure a method over folds; pooled figures are over all images, each answered once."""
    answers = np.zeros((len(images.records), 4))
    right: dict[str, float] = {}
    for fold in folds:
        test = list(fold.test)
        answers[test] = method(fold)
        right[fold.name] = float((predicted_classes(answers[test]) == images.truth[test]).mean())
    scored = sorted(index for fold in folds for index in fold.test)
    truth, groups = images.truth[scored], images.groups[scored].tolist()
    majority = ConfluenceClass(int(np.bincount(truth).argmax()))
    pooled = measure(truth, answers[scored], groups, majority_class=majority).figures
    accuracies = list(right.values())
    return {
        "mean": float(np.mean(accuracies)),
        "sd": float(np.std(accuracies, ddof=1)),
        "folds": right,
        "accuracy": [pooled["accuracy"].value, pooled["accuracy"].low, pooled["accuracy"].high],
        "within_one_class": pooled["within_one_class"].value,
        "quadratic_kappa": pooled["quadratic_kappa"].value,
        "calibration_error": calibration_error(answers[scored], truth),
    }


def show(title: str, results: dict[str, dict[str, Any]]) -> None:
    print(f"\n{title}")
    print(f"{'':10} {'mean ± SD':>15} {'all, 95 % interval':>22} {'within 1':>9} {'kappa':>6} {'ECE':>6}   each")
    for name, each in results.items():
        middle, low, high = each["accuracy"]
        interval = f"{middle:.3f}" if low is None else f"{middle:.3f} ({low:.3f}-{high:.3f})"
        print(
            f"{name:10} {each['mean']:7.3f} ± {each['sd']:.3f} {interval:>22} {each['within_one_class']:9.3f} "
            f"{each['quadratic_kappa']:6.3f} {each['calibration_error']:6.3f}   "
            + "  ".join(f"{fold} {value:.3f}" for fold, value in each["folds"].items()),
            flush=True,
        )
    wrong = {name: 1 - each["mean"] for name, each in results.items()}
    if wrong["features"]:
        points, ratio = wrong["features"] - wrong["product"], wrong["product"] / wrong["features"]
        print(f"product over features: {100 * points:+.1f} points of accuracy, error x {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("MSCFLOW_REAL_DATA"))
    parser.add_argument("--backbone")
    parser.add_argument("--planes", choices=("texture", "rgb"))
    parser.add_argument("--weights")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--rate", type=float, help="learning rate; default: searched in each fold")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    given = parser.parse_args()
    if given.folder is None:
        parser.error("give the folder of the images, or set MSCFLOW_REAL_DATA")
    training = {"learning_rate": given.rate} | {
        name: getattr(given, name) for name in ("backbone", "planes", "weights", "epochs", "seed")
    }
    chosen = load_settings(training=training)
    settings = chosen.training
    images = read(Path(given.folder))
    cuts = {"five folds": make_folds(images.records)}
    if len({record.source for record in images.records}) > 1:
        cuts["one source left out"] = make_folds(images.records, by="source")
    print(f"{len(images.records)} images of {len(set(images.groups))} groups; product: {settings.backbone}")
    found = {}
    with tempfile.TemporaryDirectory() as home:
        methods = {
            "features": frozen_features(images),
            "contrast": local_contrast(images),
            "product": product(images, settings, chosen.search, Path(home)),
        }
        for title, folds in cuts.items():
            found[title] = {name: figures(images, folds, method) for name, method in methods.items()}
            show(title, found[title])
    if given.json:
        given.json.write_text(json.dumps({"settings": settings.model_dump(mode="json"), **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
