import pytest

from components.culture import BAND_EDGES, CLASSES, ConfluenceClass, Decision, Modality


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.0, 1), (0.3999, 1), (0.4, 2), (0.5999, 2), (0.6, 3), (0.7999, 3), (0.8, 4), (1.0, 4)],
)
def test_a_band_includes_its_lower_bound(fraction: float, expected: int) -> None:
    assert ConfluenceClass.from_confluence(fraction) == expected


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan")])
def test_a_confluence_outside_zero_to_one_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        ConfluenceClass.from_confluence(fraction)


def test_the_bands_join_without_gaps() -> None:
    bounds = [cls.bounds for cls in CLASSES]
    assert [low for low, _ in bounds] + [bounds[-1][1]] == list(BAND_EDGES)
    assert [high for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]


def test_each_class_has_the_decision_of_the_study() -> None:
    assert [cls.decision for cls in CLASSES] == [
        Decision.SEEDING,
        Decision.MEDIA_CHANGE,
        Decision.SUBCULTURE,
        Decision.OVERGROWN,
    ]


def test_registered_models_have_their_fixed_names() -> None:
    assert [m.model_name for m in Modality] == ["confluence-single-stack", "confluence-multi-stack"]
