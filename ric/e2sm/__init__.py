"""E2 service models: payload octets on one side, typed arrays on the other. Pure."""
