"""Hostile request bodies beside a stream: what they cost others."""
