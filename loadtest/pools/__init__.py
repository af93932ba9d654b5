"""What pools of GPUs and CPUs are worth together: cost, promises kept, and what happens when one of them is slow."""
