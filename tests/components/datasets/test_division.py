import numpy as np
import pytest

from components.datasets.division import count_table, draw, joined_units


def columns(*values):
    return np.array(values, np.int64)


def test_groups_that_share_a_content_are_joined():
    units = joined_units(columns(0, 0, 1, 2, 3, 3, 4), columns(0, 1, 1, 2, 3, 2, 5))
    assert [units[0] == unit for unit in units] == [True, True, True, False, False, False, False]
    assert units[3] == units[4] == units[5]
    assert len(set(units.tolist())) == 3


def test_the_table_counts_images_of_each_unit_and_class():
    assert count_table(columns(0, 1, 1, 2, 1), columns(2, 0, 0, 1, 2)).tolist() == [[0, 0, 1], [2, 0, 1], [0, 1, 0]]


def test_a_share_is_the_same_of_each_class():
    table = np.random.default_rng(0).multinomial(10, (0.5, 0.3, 0.15, 0.05), 40)
    target = np.rint(table.sum(axis=0) * 0.2).astype(np.int64)
    chosen = draw(table, share=0.2, held=0 * target, target=target, leave=0 * target, optional=False, seed=0)
    assert np.abs(table[chosen].sum(axis=0) - target).max() <= 2


@pytest.mark.parametrize(("share", "units"), [(0.1, 50), (0.25, 50), (0.4, 50), (0.3, 3000)])
def test_other_shares(share, units):
    table = np.random.default_rng(1).multinomial(6, (0.4, 0.3, 0.2, 0.1), units)
    target = np.rint(table.sum(axis=0) * share).astype(np.int64)
    chosen = draw(table, share=share, held=0 * target, target=target, leave=0 * target, optional=False, seed=0)
    assert table[chosen].sum() / table.sum() == pytest.approx(share, abs=0.02)


def test_units_that_must_be_left_are():
    table = np.array([[5, 0], [5, 1], [5, 1], [5, 1]])
    options = {"share": 0.5, "held": columns(0, 0), "target": columns(10, 2), "optional": False, "seed": 0}
    chosen = draw(table, leave=columns(1, 2), **options)
    assert (table[~chosen, 1] > 0).sum() == 2
    assert draw(table, leave=columns(1, 3), **options).tolist() == [True, False, False, False]
    assert draw(table, leave=columns(4, 3), **options) is None


def test_no_class_is_lacking_for_the_sake_of_even_shares():
    table = np.array([[10, 0], [10, 0], [10, 0], [30, 1], [30, 1], [30, 1]])
    chosen = draw(
        table, share=0.1, held=columns(0, 0), target=columns(12, 1), leave=columns(1, 1), optional=False, seed=0
    )
    assert table[chosen, 1].sum() >= 1


def test_what_is_held_already_counts():
    table = np.array([[4, 4]] * 5)
    options = {"share": 0.2, "target": columns(6, 6), "leave": columns(1, 1), "seed": 0}
    assert not draw(table, held=columns(6, 6), optional=True, **options).any()
    assert draw(table, held=columns(2, 2), optional=True, **options).sum() == 1


def test_another_seed_gives_another_answer_and_the_same_seed_the_same():
    table = np.ones((30, 2), np.int64)
    target = columns(6, 6)
    drawn = [
        draw(table, share=0.2, held=0 * target, target=target, leave=0 * target, optional=False, seed=seed).tolist()
        for seed in (1, 1, 50)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
