"""RAN side of the simulator; knows nothing of E2 or of the grid."""
