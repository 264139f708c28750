"""What the RIC apps share: runtime, E2, E3 and A1 interfaces, twin bus."""

import os

# gRPC's older way of polling wakes half as many threads per message (docs/decisions/0039). Read when gRPC starts;
# whoever sets the variable decides.
os.environ.setdefault(
    "GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener,-event_engine_for_all_other_endpoints"
)
