"""What requests notice when the server that gateways share is slow, away or unwilling."""
