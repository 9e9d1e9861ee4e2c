"""The order of a run follows what the tests took before."""

from .order import merged


def test_a_partial_run_updates_its_own_durations_and_keeps_the_others() -> None:
    stored = {"tests/test_order.py": 2.0, "tests/test_codec.py": 3.0, "tests/test_gone.py::test_it": 4.0}
    assert merged(stored, {"tests/test_order.py": 1.25}) == {"tests/test_codec.py": 3.0, "tests/test_order.py": 1.2}


def test_a_unit_that_takes_a_moment_is_not_stored() -> None:
    assert merged({"tests/test_order.py": 2.0}, {"tests/test_order.py": 0.04}) == {}
