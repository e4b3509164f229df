import base64
import io

import numpy as np
import pytest
from PIL import Image

from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.evaluation.pictures import MOST_PICTURES, PICTURE_SIDE, data_uri, known_image, known_picture, sheet
from components.evaluation.scoring import Network, scored
from components.imaging import Preprocessing, decode, preprocess, probabilities
from components.novelty import Familiar, Verdict, describe
from components.storage import open_store


@pytest.fixture(scope="module")
def repository(world):
    return DataRepository(open_store(world.store))


@pytest.fixture(scope="module")
def network(world):
    return Network(world.model_dir / "model.onnx", Preprocessing(size=32))


@pytest.fixture(scope="module")
def records(world, repository):
    return load_split(repository, world.split_id)["test"]


@pytest.fixture(scope="module")
def familiar(world, repository):
    parts = load_split(repository, world.split_id)
    train, validation = (
        np.stack([describe(decode(repository.image(record))) for record in parts[part]])
        for part in ("train", "validation")
    )
    return Familiar.fit(train, validation)


class Pickier:
    """Holds what another one judges, and one picture beside, to be foreign."""

    def __init__(self, familiar, foreign):
        self.familiar, self.foreign = familiar, foreign

    def judge(self, image):
        if image.shape == self.foreign.shape and np.array_equal(image, self.foreign):
            return Verdict(2.0, "it is the one")
        return self.familiar.judge(image)


def answers_for(records, logits):
    return scored("a" * 64, records, logits, temperature=0.5, majority_class=1)


def opened(uri):
    head, body = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_pictures_keep_their_shape_and_colour():
    grey = np.full((300, 600, 3), 90, np.uint8)
    assert opened(data_uri(grey)).size == (PICTURE_SIDE, PICTURE_SIDE // 2)
    assert opened(data_uri(grey)).mode == "L"
    colour = grey.copy()
    colour[..., 0] = 200
    assert opened(data_uri(colour)).getpixel((5, 5)) == pytest.approx((200, 90, 90), abs=6)


def test_the_sheet_shows_the_worst_first(repository, records):
    logits = np.zeros((len(records), 4))
    for row, record in enumerate(records):
        logits[row, record.confluence_class - 1] = row % 5
    shown = sheet(repository, records, answers_for(records, logits))
    assert len(shown) == min(len(records), MOST_PICTURES)
    assert [picture.answer % 5 for picture in shown] == sorted(picture.answer % 5 for picture in shown)
    first = decode(repository.image(records[shown[0].answer]))
    assert np.asarray(opened(shown[0].uri)).mean() == pytest.approx(first.mean(), abs=2)


def test_the_known_image_is_the_surest_right_answer_and_is_answered_as_serving_does(
    repository, records, network, familiar
):
    images = np.stack([preprocess(repository.image(record), network.preprocessing) for record in records])
    test = answers_for(records, network.logits_of(images))
    png, answer = known_image(repository, records, test, network, familiar)
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG" and max(image.size) <= 64
    served = probabilities(network.logits_of(preprocess(png, network.preprocessing)[np.newaxis]), 0.5)[0]
    assert answer.probabilities == pytest.approx(tuple(served), abs=1e-6)
    right = test.probabilities[test.right].max(axis=1)
    assert max(answer.probabilities) == pytest.approx(right.max(), abs=0.02)


def test_an_image_that_looks_foreign_is_known_only_where_there_is_no_other(repository, records, network, familiar):
    images = np.stack([preprocess(repository.image(record), network.preprocessing) for record in records])
    test = answers_for(records, network.logits_of(images))
    surest, _ = known_image(repository, records, test, network, familiar)
    other, _ = known_image(repository, records, test, network, Pickier(familiar, decode(surest)))
    assert other != surest
    assert familiar.judge(decode(other)).novelty <= 1
    alone = [record for record in records if known_picture(repository.image(record), network.preprocessing) == surest]
    only = answers_for(alone, test.logits[[records.index(record) for record in alone]])
    assert known_image(repository, alone, only, network, Pickier(familiar, decode(surest)))[0] == surest


def test_a_model_that_is_never_right_has_a_known_answer_too(repository, records, network, familiar):
    wrong = np.zeros((len(records), 4))
    for row, record in enumerate(records):
        wrong[row, record.confluence_class % 4] = 5
    # The network itself disagrees with these answers as well as with the labels below.
    relabelled = [record for record in records if record.confluence_class != 1]
    test = answers_for(relabelled, wrong[: len(relabelled)])
    png, answer = known_image(repository, relabelled, test, network, familiar)
    assert decode(png).shape[2] == 3 and sum(answer.probabilities) == pytest.approx(1)
