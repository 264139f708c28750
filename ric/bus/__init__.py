"""The twin bus: records, the `memory://` bus and the `kafka://` bus behind one interface."""
