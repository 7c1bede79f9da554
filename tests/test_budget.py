"""A budget is a time or a ratio, and nothing else."""

import pytest

from profiles.budget import parse_budget
from runtimes.errors import InputError


@pytest.mark.parametrize(
    ("text", "dense_ms", "limit_ms"),
    [("5ms", 9.0, 5.0), ("350us", 9.0, 0.35), ("0.6x", 9.0, 5.4), (" .5 ms ", 9.0, 0.5)],
)
def test_budget_limits_the_latency(text, dense_ms, limit_ms):
    assert parse_budget(text).limit_ms(dense_ms) == pytest.approx(limit_ms)


@pytest.mark.parametrize(
    "text", ["5 parsecs", "5", "ms", "", "0ms", "0x", "-5ms", "nanms", "1e3ms", "5s", "5ms 6ms"]
)
def test_what_is_no_time_is_refused_with_the_forms_that_are(text):
    with pytest.raises(InputError, match=r"is not a time: write 5ms, 350us or 0.6x") as caught:
        parse_budget(text)

    assert repr(text) in str(caught.value)
