"""A round begins only where one as long as the last would end in time."""

import pytest

from xapps.hems_load.pace import Pace


@pytest.mark.parametrize(
    ("rounds_ms", "answers"),
    [
        ([250, 250, 250], [True, True, False]),
        ([500], [False]),
        ([100, 400], [True, False]),
        ([400, 50, 50], [True, True, True]),
        ([2000, 0], [False, False]),
    ],
)
def test_pace_looks_ahead_by_the_last_round(rounds_ms, answers):
    now = [7000.0]
    pace = Pace(800.0, lambda: now[0])
    for round_ms, goes_on in zip(rounds_ms, answers, strict=True):
        now[0] += round_ms
        assert pace() is goes_on


def test_pace_looks_ahead_by_a_part_of_what_was_done_where_so_told():
    now = [0.0]
    pace = Pace(1_000.0, lambda: now[0])
    now[0] = 550.0
    assert pace(0.7)
    now[0] = 1_000.0
    assert not pace(0.7)
