"""What a load test recorded, and the report that people read of it."""
