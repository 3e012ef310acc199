"""Tables for a page: rounded, complete, and without a trace on the network."""

import pytest
import torch
from torch import nn

from genlab_helpers import tables


def rows(markdown) -> list[list[str]]:
    lines = markdown.data.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_numbers_are_rounded_and_texts_kept():
    made = rows(tables.table(("name", "value"), [("a", 0.123456), ("b", 12345)]))
    assert made == [["name", "value"], ["---", "---"], ["a", "0.1235"], ["b", "12,345"]]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 entries"):
        tables.table(("name", "value"), [("a",)])


def test_layers_give_shapes_and_parameters():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU())
    made = rows(tables.layers(network, torch.zeros(2, 3, 4)))
    assert made[2:] == [
        ["(input)", "(2, 3, 4)", ""],
        ["Flatten", "(2, 12)", "0"],
        ["Linear", "(2, 5)", "65"],
        ["ReLU", "(2, 5)", "0"],
        ["all", "", "65"],
    ]


def test_layers_leave_the_network_as_it_was():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 1).eval())
    tables.layers(network, torch.ones(1, 3))  # one example: no batch statistics
    assert [layer.training for layer in network] == [True, True, False]
    assert not network[0].running_mean.any()
