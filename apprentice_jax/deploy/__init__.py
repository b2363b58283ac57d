"""From a trained network to what runs: so far its cost."""
