"""The ledger: every step of a batch, written before it is taken."""
