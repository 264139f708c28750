"""Partitions: every node belongs to exactly one instance, nodes of one link to the same; links are checked."""

import pytest
from pydantic import ValidationError

from ric.config import load_config
from xapps.slice_bandwidth.config import SliceBandwidthConfig

NODES = [f"00101-e{number:07x}" for number in range(200)]


def test_partitions_serve_every_node_once_and_share_them_out():
    instances = [SliceBandwidthConfig(partitions=3, partition=k) for k in range(3)]
    served = [[node for node in NODES if one.serves(node)] for one in instances]
    assert sorted(node for share in served for node in share) == NODES
    assert min(len(share) for share in served) > 30
    assert all(SliceBandwidthConfig().serves(node) for node in NODES)


def test_partition_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="partition below partitions"):
        SliceBandwidthConfig(partitions=2, partition=2)


def link(name, *nodes):
    return {"link_id": name, "e2_node_ids": nodes, "capacity_mbps": 85_000}


def test_partitions_keep_the_nodes_of_a_link_together():
    links = [link(f"ring-{k}", *NODES[5 * k : 5 * k + 5]) for k in range(20)]
    instances = [SliceBandwidthConfig(partitions=3, partition=k, aggregation_links=links) for k in range(3)]
    served = [{node for node in NODES if one.serves(node)} for one in instances]
    assert sorted(node for share in served for node in share) == NODES
    for one in links:
        assert sum(not share.isdisjoint(one["e2_node_ids"]) for share in served) == 1
    assert min(len(share) for share in served) > 30
    # Nodes that are on no link stay where they were without links.
    plain = SliceBandwidthConfig(partitions=3, partition=1)
    assert [plain.serves(node) for node in NODES[100:]] == [instances[1].serves(node) for node in NODES[100:]]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([link("a", "n1", "n2"), link("b", "n2", "n3")], "n2 more than once"),
        ([link("a", "n1", "n2"), link("a", "n3", "n4")], "each link_id once"),
        ([link("a", "n1", "n1")], "each e2_node_ids once"),
        ([link("a", "n1")], "at least 2"),
        ([{**link("a", "n1", "n2"), "capacity_mbps": 0}], "greater than 0"),
        ([{**link("a b", "n1", "n2")}], "match"),
    ],
    ids=["node on two links", "name twice", "node twice", "one node", "no rate", "name with a space"],
)
def test_links_that_make_no_sense_are_refused(links, message):
    with pytest.raises(ValidationError, match=message):
        SliceBandwidthConfig(aggregation_links=links)


def test_links_come_from_the_environment():
    text = '[{"link_id": "ring-1", "e2_node_ids": ["n1", "n2"], "capacity_mbps": 85000}]'
    made = load_config(SliceBandwidthConfig, None, "TWINRIC_S", {"TWINRIC_S__AGGREGATION_LINKS": text})
    assert made.link_of("n2").link_id == "ring-1"
    assert made.link_of("n3") is None
