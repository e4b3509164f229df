import numpy as np
import pytest

from components.culture import Modality
from components.datasets.simulation.microscope import Microscope, expose, illuminate
from components.errors import InputError


@pytest.mark.parametrize(
    ("name", "value"),
    [("brightness", 0.0), ("contrast", -1.0), ("blur", 21.0), ("noise", float("nan")), ("layers", -1)],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=rf"microscope {name} {value} is out of range: give"):
        Microscope(**{name: value})


def test_drift_moves_light_and_focus_within_their_ranges():
    usual = Microscope.for_modality(Modality.SINGLE_STACK)
    assert usual.drifted(brightness=0.1).brightness == pytest.approx(usual.brightness + 0.1)
    assert usual.drifted(brightness=9.0).brightness == 0.9
    assert usual.drifted(blur=-9.0).blur == 0.0


def test_uneven_light_keeps_its_mean_and_its_limit():
    for seed in range(5):
        light = illuminate((120, 200), 0.3, np.random.default_rng(seed))
        assert light.shape == (120, 200)
        assert light.mean() == pytest.approx(1.0, abs=0.01)
        assert 0.25 < np.abs(light - 1.0).max() < 0.32


def test_even_light_is_even():
    assert illuminate((64, 64), 0.0, np.random.default_rng(0)) == pytest.approx(1.0)


def test_the_camera_adds_noise_that_grows_with_light_and_clips():
    dark, bright = (np.full((200, 200), level, np.float32) for level in (0.1, 0.7))
    rng = np.random.default_rng(0)
    assert expose(bright, 0.02, rng).std() > 1.3 * expose(dark, 0.02, rng).std()
    assert expose(bright, 0.0, rng).std() == 0.0
    assert (expose(np.full((8, 8), 1.5, np.float32), 0.0, rng) == 255).all()
