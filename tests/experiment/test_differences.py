"""Where specs differ, and where they only say the same in two ways."""

from tiebench.experiment.differences import find_differences


def test_a_switch_that_is_off_is_no_difference_from_one_that_is_not_there():
    """As in a signature: records older than a switch say nothing of it."""
    specs = {"old": {"training": {"offset": None, "epochs": 3}}, "new": {"training": {"offset": False, "epochs": 3}}}
    assert find_differences(specs) == []
    specs["other"] = {"training": {"offset": True, "epochs": 3}}
    assert find_differences(specs) == [("training.offset", {"old": None, "new": False, "other": True})]


def test_zero_is_no_switch():
    assert find_differences({"one": {"layers": 0}, "other": {"layers": None}}) != []
