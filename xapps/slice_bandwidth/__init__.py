"""The slice bandwidth xApp: FlexE slots of a node's three slices, chosen to minimise eq (3) inside the limits."""

__all__: list[str] = []
