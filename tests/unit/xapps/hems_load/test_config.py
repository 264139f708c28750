"""Groups of homes in the settings: homes by pattern, all of one node."""

import pytest

from ric.config import validate
from ric.errors import TwinRicError
from xapps.hems_load.config import HemsConfig


def test_groups_of_a_node_are_its_patterns_of_homes():
    config = HemsConfig(home_groups={"street": ("n1/home-00?", "n1/home-017"), "flats": ("n2/*",)})
    assert config.members_at("n1") == {"street": ("home-00?", "home-017")}
    assert config.members_at("n3") == {}


@pytest.mark.parametrize(
    "homes", [(), ("home-1",), ("n1/",), ("n1/a", "n2/b")], ids=["none", "no node", "no home", "two nodes"]
)
def test_group_that_is_not_of_one_node_is_refused_by_field(homes):
    with pytest.raises(TwinRicError, match="home_groups"):
        validate(HemsConfig, {"home_groups": {"street": homes}}, "CONFIG")
