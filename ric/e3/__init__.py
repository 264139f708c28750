"""E3 between dApps and the DU: E3AP in libe3's protobuf encoding over ZeroMQ."""
