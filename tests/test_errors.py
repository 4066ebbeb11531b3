import pytest

from adapruner_det.errors import DataError, reported


def test_a_data_error_becomes_one_line_on_stderr_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as caught, reported():
        raise DataError("the file is\n  broken: mend it")
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "error: the file is broken: mend it\n")


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(KeyError), reported():
        raise KeyError("a fault of the code")


def test_no_error_changes_nothing(capsys):
    with reported():
        print("fine")
    assert capsys.readouterr() == ("fine\n", "")


def test_a_data_error_can_be_caught_as_a_value_error():
    with pytest.raises(ValueError, match="broken"):
        raise DataError("broken")
