"""Requests of clients that keep connections, while two gateways restart in turn."""
