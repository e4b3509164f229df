from components.culture import Modality, Task
from pipelines.study.findings import findings


def said(study, *words):
    return [sentence for sentence in findings(study) if all(word in sentence for word in words)]


def test_the_best_network_and_the_paper(make_cell, make_study):
    study = make_study(
        {
            make_cell("vit"): [0.5, 0.6],
            make_cell("resnet50"): [0.8, 0.9],
            make_cell("resnet50", "published"): [0.9, 0.9],
        }
    )
    (sentence,) = said(study, "Single-stack: ResNet50 is best, right for 85.0 ± 7.1 % of the images with vessels")
    assert "90.0 ± 0.0 % by the published protocol" in sentence
    assert "86.3 ± 3.8 % in the paper" in sentence
    published = make_study({make_cell("vit", "published"): [0.5, 0.7]})
    assert said(
        published, "Vision Transformer is best, right for 60.0 ± 14.1 % of the images by the published protocol"
    )


def test_a_network_that_does_not_beat_the_baseline_is_named(make_cell, make_study):
    folds = {
        make_cell("local_contrast"): [0.7, 0.7, 0.7],
        make_cell("vit"): [0.6, 0.7, 0.7],
        make_cell("alexnet"): [0.7, 0.7, 0.7],
        make_cell("resnet50"): [0.9, 0.5, 0.9],
    }
    study = make_study(folds)
    assert said(study, "Vision Transformer and AlexNet do not beat local contrast, a filter and no network", "70.0 %")
    assert said(study, "ResNet50 is above", "cannot rule out chance")
    good = make_study({make_cell("local_contrast"): [0.5, 0.5, 0.5], make_cell("resnet50"): [0.9, 0.91, 0.92]})
    assert said(good, "every network beats local contrast", "50.0 %")


def test_the_worth_of_the_leak(make_cell, make_study):
    study = make_study(
        {
            make_cell("resnet50", "published"): [0.9, 0.92, 0.94],
            make_cell("resnet50"): [0.8, 0.8, 0.83],
            make_cell("vit", "published"): [0.5, 0.9, 0.7],
            make_cell("vit"): [0.6, 0.7, 0.8],
        }
    )
    assert said(study, "adds 5.5 points of accuracy, averaged over 2 networks (beyond chance for 1)")


def test_sources_left_out_and_clumps(make_cell, make_study):
    multi = {"modality": Modality.MULTI_STACK}
    study = make_study(
        {
            make_cell("resnet50"): [0.9, 0.9],
            make_cell("resnet50", "left_out"): [0.4, 0.6],
            make_cell("vit", **multi): [0.5, 0.5],
            make_cell("vit", clumps="masked", **multi): [0.4, 0.5],
        }
    )
    assert said(study, "ResNet50 is right for 50.0 %", "against 90.0 % in folds that have", "‘1’ with 40.0 %")
    assert said(
        study, "Multi-stack: masking dark clumps out takes 5.0 points off the accuracy", "cannot tell from chance"
    )


def test_detectors_failures_and_notes(make_cell, make_study):
    cells = make_cell("resnet50", task=Task.ABNORMAL_CELLS)
    study = make_study({cells: [0.5, 0.7]}, failures={"single_stack-vit, fold 2": "it diverged"}, notes=("No boxes.",))
    assert said(study, "ResNet50 finds 60.0 % of them, and 50.0 % of its boxes are on none")
    assert said(study, "No result: single_stack-vit, fold 2: it diverged")
    assert said(study, "No boxes.")
