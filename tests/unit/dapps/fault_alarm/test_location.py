"""The fault passage rule on currents made by hand."""

import numpy as np
import pytest

from dapps.fault_alarm.location import inception_sample, passage_section
from dapps.fault_alarm.state import CYCLE, FTUS

SOUND = np.zeros((FTUS, 6, CYCLE), dtype=np.float32)


@pytest.mark.parametrize("section", range(1, FTUS + 1))
def test_passage_section_is_the_last_head_that_sees_the_current(section):
    cycle = SOUND.copy()
    cycle[:section, 1] = 200 * np.sin(2 * np.pi * np.arange(CYCLE) / CYCLE)
    cycle[section:, 1] = 10
    assert passage_section(cycle, SOUND) == section


def test_passage_section_noise_says_nothing():
    cycle = np.random.default_rng(0).normal(0, 0.2, SOUND.shape).astype(np.float32)
    assert passage_section(cycle, SOUND) == 0


def test_inception_sample_current_or_voltage_whichever_departs_first():
    cycle = SOUND.copy()
    cycle[0, 2, 30:] = 50
    assert inception_sample(cycle, SOUND) == 30
    cycle[3, 5, 20:] = -1_000
    assert inception_sample(cycle, SOUND) == 20
    assert inception_sample(SOUND, SOUND) == CYCLE
