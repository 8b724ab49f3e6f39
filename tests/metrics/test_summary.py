"""Groups of images in a report."""

import numpy as np

from restoration.metrics.summary import hole_groups, severity_groups


def test_images_are_grouped_by_their_erased_share_and_those_without_a_hole_are_left_out():
    groups = hole_groups(np.array([0.0, 0.02, 0.25, 0.09, 0.29, 0.0]))
    assert [(round(labels["low"], 6), round(labels["high"], 6)) for labels, _ in groups] == [(0.0, 0.1), (0.2, 0.3)]
    assert [selected.tolist() for _, selected in groups] == [
        [False, True, False, True, False, False],
        [False, False, True, False, True, False],
    ]
    assert hole_groups(np.zeros(3)) == []


def test_severities_are_grouped_by_quarters():
    groups = severity_groups(np.array([0.0, 0.3, 1.0]))
    assert [labels["low"] for labels, _ in groups] == [0.0, 0.25, 0.75]
