"""The examples in docstrings run and print what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = ("certify", "disjoint.classifier", "region", "run.experiment")


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_print_what_they_say(name: str):
    module = import_module(f"rddrs_dist.{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
