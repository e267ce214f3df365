"""Labels of a request are text that an answer can name."""

import pytest

from services.encoding.labels import check_labels
from services.errors import Problem


def test_half_of_a_surrogate_pair_is_no_label():
    with pytest.raises(Problem) as caught:
        check_labels(["dog", "caf\u00e9", "\ud800"], 10, 100)
    assert (caught.value.code, caught.value.pointer) == ("label-invalid", "/labels/2")
