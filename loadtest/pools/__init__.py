"""What pools of GPUs and CPUs are worth together: cost, objectives met, and what happens when one is slow."""
