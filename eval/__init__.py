"""An adapter and held-out real data to scores, failures and a collapse verdict."""
