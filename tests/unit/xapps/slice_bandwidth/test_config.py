"""Partitions: every node belongs to exactly one instance."""

import pytest
from pydantic import ValidationError

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
