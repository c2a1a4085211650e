"""The parts of the simulated service."""
