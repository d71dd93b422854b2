"""Promise 10: every exception can be pickled, and unknown names get a suggestion."""

from __future__ import annotations

import inspect
import pickle

import pytest

from rhombus_dataset import errors


def instances() -> list[errors.RhombusDatasetError]:
    made: list[errors.RhombusDatasetError] = [
        errors.InvalidFile([errors.Problem("plan.yaml", 3, 5, "views.door", "expected a crop, got 7")]),
        errors.MissingExtra("serve", "server"),
    ]
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.RhombusDatasetError) and not any(type(e) is kind for e in made):
            made.append(kind("what happened"))
    return made


@pytest.mark.parametrize("error", instances(), ids=lambda e: type(e).__name__)
def test_every_exception_pickles(error: errors.RhombusDatasetError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.exit_code in (1, 2)


def test_a_problem_names_its_place() -> None:
    assert str(errors.Problem("p.yaml", 3, 5, "seed", "no")) == "p.yaml:3:5: seed: no"
    assert str(errors.Problem("p.yaml", None, None, "", "empty")) == "p.yaml: empty"


def test_did_you_mean() -> None:
    assert errors.did_you_mean("intervall", ["interval", "random"]) == "; did you mean interval?"
    assert errors.did_you_mean("xyz", ["interval", "random"]) == ""
