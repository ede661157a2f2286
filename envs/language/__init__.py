"""Language models as populations: checkpoints, generation, rewards, quantised weights, text."""
