import pytest
import torch
from torchvision.models import inception_v3

from components.models.classifier import Classifier, build_classifier
from components.models.inception import AUXILIARY_LENGTH, CHANNELS
from components.models.weights import Weights


@pytest.fixture(scope="module")
def model() -> Classifier:
    return build_classifier("inception_v3", 0.5, Weights("none"), seed=0)


def test_the_auxiliary_vector_and_its_classifier_are_there_in_training_alone(model: Classifier) -> None:
    images = torch.randn(2, 3, 75, 75)
    features, vector = model.train().features(images)
    assert features.shape == (2, CHANNELS, 1, 1)
    assert vector.shape == (2, AUXILIARY_LENGTH)
    assert [tuple(logits.shape) for logits in model(images)] == [(2, 4), (2, 4)]
    with torch.no_grad():
        assert model.eval()(images).shape == (2, 4)


def test_both_outputs_are_those_of_the_published_network(model: Classifier) -> None:
    published = inception_v3(init_weights=False, aux_logits=True)
    published.AuxLogits.fc = published.fc = published.dropout = torch.nn.Identity()
    published.load_state_dict(model.features.state_dict())
    images = torch.randn(2, 3, 299, 299)  # from here on up the auxiliary branch pools as it was published
    with torch.no_grad():
        expected = published.train()(images)
        features, vector = model.train().features(images)
    torch.testing.assert_close(features.mean(dim=(2, 3)), expected.logits)
    torch.testing.assert_close(vector, expected.aux_logits)
