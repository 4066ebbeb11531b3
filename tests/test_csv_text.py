import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.csv_text import csv_text

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from('\r\n,"')


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=3)))
def test_every_text_is_read_as_it_was(rows):
    assert list(csv.reader(io.StringIO(csv_text(rows), newline=""), strict=True)) == rows


def test_lines_end_as_those_of_text_and_numbers_are_plain():
    assert csv_text([("key", "x"), ("a", 0.1), ("b\r", True)]) == 'key,x\na,0.1\n"b\r",True\n'
