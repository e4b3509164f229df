import pytest

from components.culture import Modality, Task
from components.errors import SettingsError
from components.models.backbones import names
from pipelines.study.options import (
    parse_backbones,
    parse_clumps,
    parse_equalisations,
    parse_modalities,
    parse_tasks,
)


def test_names_are_read():
    assert parse_backbones("all") == names()
    assert parse_backbones("vit, resnet50,vit") == ("vit", "resnet50")
    assert parse_modalities("all") is None
    assert parse_modalities("multi_stack") == (Modality.MULTI_STACK,)
    assert parse_tasks("all") == tuple(Task)
    assert parse_equalisations("none,clahe") == ("none", "clahe")
    assert parse_clumps("both") == ("kept", "masked")


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_backbones, "resnet51", "--backbones 'resnet51' is not one of alexnet, .*resnet50.* or all"),
        (parse_backbones, " , ", "names nothing"),
        (parse_modalities, "multi", "--modalities 'multi' is not one of single_stack, multi_stack or all"),
        (parse_tasks, "cells", "--task 'cells' is not one of confluence, abnormal_cells or all"),
        (parse_equalisations, "some", "--equalisation 'some'"),
        (parse_clumps, "gone", "--clumps 'gone'"),
    ],
)
def test_unknown_names_are_told_with_those_that_are_known(parse, text, message):
    with pytest.raises(SettingsError, match=message):
        parse(text)


def test_images_that_tell_no_modality_are_of_the_one_asked_for(make_options):
    assert make_options().stray_modality == Modality.SINGLE_STACK
    assert make_options(modalities=(Modality.MULTI_STACK,)).stray_modality == Modality.MULTI_STACK
    assert make_options(modalities=tuple(Modality)).stray_modality == Modality.SINGLE_STACK


def test_folds_are_checked_at_once(make_options):
    with pytest.raises(SettingsError, match="--folds 1 is not possible"):
        make_options(folds=1)
