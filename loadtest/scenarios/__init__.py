"""One scenario, played through several gateways side by side."""
