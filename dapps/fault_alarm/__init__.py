"""Fault alarm: feeder faults from three-phase waveforms, within the RT RIC's 10 ms (dApp)."""

__all__: list[str] = []
