"""E2: the Near-RT RIC towards E2 nodes (our E2AP over gRPC) and towards xApps (onos.e2t.e2.v1beta1)."""
