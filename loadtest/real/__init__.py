"""A real engine: what clients get from it directly and through the gateway, and what is counted when it fails."""
